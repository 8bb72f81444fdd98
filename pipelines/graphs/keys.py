"""What graph is meant: the key of each kind of graph, and which kinds belong together. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.techniques.feature_cache import SHORT


@dataclass(frozen=True, slots=True)
class GraphKey:
    """part: encode, decode; encode-masked, of a picture without what is drawn anew; paint, decoder and painter in one; modulate,
    what the resnets take; full, or with a branch a full pass that keeps its deep feature, shallow, which takes it, and relay,
    which takes it and keeps that of the next branch out; encoder, a full pass that keeps its skips, and decoder, which takes
    them; controlled-full, -shallow, -relay and -encoder, which take a ControlNet's residuals too; control, the ControlNet, with
    a branch what a shallow pass needs of it; keeping and paint-keeping, a full pass and paint that give what a window takes of
    the whole; window, encode-window, decode-window and paint-window, on a part of the picture; first, the full pass of the
    first levels, where another form of the UNet takes them; small and small-modulate, of a second UNet that does.
    branch: re-entry point of the feature cache. chunks: how many contexts of the text encoder the text is long.
    """

    part: str
    rows: int
    branch: int | None = None
    chunks: int = 1


ALWAYS_READY = frozenset(GraphKey(part, 1) for part in ("encode", "decode", "modulate", "full"))
"""With these every frame can be made, so they are always kept; a model's own need of memory counts them."""

CONTROLLED = {part: f"controlled-{part}" for part in ("full", *SHORT, "encoder")}
"""Passes that take a ControlNet's residuals. The decoder alone takes skips that hold them already."""


ADAPTED = frozenset(("modulate", "decoder", "keeping", "window", "first", *CONTROLLED, *CONTROLLED.values()))
"""The passes of the UNet. Only these have branches of LoRAs, whose gains are their last input."""


def with_control(key: GraphKey, inside: Sequence[int] | None = None) -> tuple[GraphKey, ...]:
    """What a pass needs where a ControlNet takes part: the pass that takes its residuals, and the ControlNet's own. inside: the
    skips that take features of a T2I-Adapter; a shallow pass may compute none of them, and then needs nothing."""
    if key.part not in CONTROLLED:
        return ()
    if inside is not None and key.part in SHORT and key.branch is not None and inside[0] > key.branch:
        return ()
    taken = key.branch if key.part in SHORT else None
    control = GraphKey("control", key.rows, taken, key.chunks if inside is None else 1)  # an adapter takes no text
    return replace(key, part=CONTROLLED[key.part]), control
