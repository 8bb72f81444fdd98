"""When features of an earlier UNet pass may be used again. Decides only: no tensors, no UNet, no clock.

Three kinds of reuse:
- frames: the deep features of an earlier frame at the same noise level, while the fresh detail of the new frame enters through
  the UNet's outer layers. One CacheState belongs to one session and one level (and one row of it, where guidance adds a
  negative row); the tensors lie beside it, with the engine. In a cascade every second of these frames makes do with even fewer
  layers: what is one layer further in is that of the frame before, which took the usual short way.
- steps: the deep features of an earlier level of the same frame (DeepCache, arXiv 2312.00858).
- encoder: everything that the way down made at an earlier level of the same frame; only the way up is computed (Faster
  Diffusion, arXiv 2312.09608). Never between frames, where it would repeat the old picture.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pipelines.techniques.gate import Thumb
from pipelines.values.settings import CacheSettings, Settings

Decision = Literal["full", "reuse"]

Kind = tuple[str, int | None]
"""A UNet pass as the graphs name it: (part, branch)."""

SHORT = ("shallow", "relay")
"""Parts that begin at a branch; a relay also keeps the deep feature of the next one out."""

PLAIN: Kind = ("full", None)
"""The pass that neither keeps nor takes anything."""

SCENE_CUT = 0.12
"""Drift that ends an entry under any policy. Over three frames a handheld camera reaches 0.07, a cut 0.27 and more."""


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What an entry belongs to: features of one key are never used under another.

    width, height: of the picture or of its latent. timestep: of the pass, between the steps of a frame of its first. `picture`
    stands for all else that the row was made with (prompts, guidance, noise, maps): equal only if all of it is the same.
    """

    width: int
    height: int
    reuse: str
    branch: int
    timestep: int
    seed: int
    picture: Hashable


@dataclass(frozen=True, slots=True, eq=False)
class CacheState:
    """One entry, seen from outside. reference: thumbnail of the frame of the full pass, None for a frame without pixels;
    age: frames since then that made do with it. The default is no entry."""

    key: CacheKey | None = None
    reference: Thumb | None = None
    age: int = 0


class _AsBefore:
    """Stands for a key or a thumbnail that is not known yet: equal to every other."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        raise TypeError("is equal to everything, so it has no hash")


AS_BEFORE: Any = _AsBefore()


def cascades(settings: CacheSettings) -> bool:
    """Whether short passes take turns: there is a branch further out. At an interval of two it is always the first's turn, by the
    same graphs, so that moving the interval builds none."""
    turns = "s" in settings.pattern if settings.pattern else settings.cascade
    return turns and settings.reuse == "frames" and settings.branch > 0


def turns(settings: CacheSettings, level: int) -> str:
    """The passes after a full one at a level of noise, in turn: d for a deep short pass, which begins at `branch`, s for a
    shallow one, at branch − 1. The next pass is full."""
    if settings.pattern:
        parts = settings.pattern.split("/")
        return parts[min(level, len(parts) - 1)]
    count = settings.interval - 1
    return ("ds" * count)[:count] if cascades(settings) else "d" * count


def shallow(settings: CacheSettings, level: int, age: int) -> bool:
    """Whether the short pass after `age` others since the full one is a shallow one."""
    return cascades(settings) and turns(settings, level)[age : age + 1] == "s"


def passes(settings: CacheSettings) -> tuple[Kind, ...]:
    """The full pass that keeps what these settings reuse, and the passes that take it, in the order of their turns."""
    if settings.reuse == "encoder":
        return ("encoder", None), ("decoder", None)
    full, branch = ("full", settings.branch), settings.branch
    return (full, ("relay", branch), ("shallow", branch - 1)) if cascades(settings) else (full, ("shallow", branch))


def gains(settings: CacheSettings, prediction: str) -> bool:
    """Whether this kind of reuse can gain anything with a network of this prediction type.

    One that predicts x̂₀ itself ("sample") has nothing from x but what its way down made. Without that way its later levels repeat
    the picture of the level that had one, whatever the solver, as fewer steps do for less.
    """
    return settings.reuse != "encoder" or prediction != "sample"


def idle(settings: Settings, prediction: str) -> str | None:
    """Why these settings' cache does nothing, for people; None where it acts, or is off."""
    cache = settings.cache
    if not cache.enabled or cache.reuse == "frames":
        return None
    if not gains(cache, prediction):
        return "the feature cache is off: without the encoder, later steps of this model repeat the first one; take fewer steps"
    return f"the feature cache waits: {cache.reuse} reuses between steps, and there is one step" if settings.steps == 1 else None


def drift(thumb: Thumb | None, reference: Thumb | None) -> float:
    """Mean absolute change of the input since the full pass, 0..1; 1 where pixels came or went, 0 between two frames without."""
    if thumb is AS_BEFORE:
        return 0.0
    if thumb is None or reference is None or thumb.shape != reference.shape:
        return 0.0 if thumb is reference else 1.0
    return float(np.abs(thumb - reference).mean())


def decide(state: CacheState, key: CacheKey, thumb: Thumb | None, settings: CacheSettings, level: int = 0) -> Decision:
    """The pass for the next frame of this entry, which is of a level of noise. Pure.

    interval: a full pass every `interval`-th frame, or after each `pattern`. adaptive: as soon as the input has drifted by more
    than `drift`, and no later than that. Under both, another key or a scene cut leads to a full pass at once.
    """
    if not settings.enabled or state.key != key or state.age >= len(turns(settings, level)):
        return "full"
    limit = min(settings.drift, SCENE_CUT) if settings.policy == "adaptive" else SCENE_CUT
    return "full" if drift(thumb, state.reference) > limit else "reuse"


def decide_level(kept: CacheKey | None, since: int, key: CacheKey, settings: CacheSettings) -> Decision:
    """The pass for the next level of a frame, between whose steps features are reused. Pure.

    kept: the key of the frame's last full pass, None where it has none yet; since: levels from that one to this. Every
    `interval`-th level is full, the first one always; the input does not drift within a frame.
    """
    return "reuse" if settings.enabled and kept == key and since < settings.interval else "full"


def aged(state: CacheState) -> CacheState:
    """The entry after another frame has used it."""
    return replace(state, age=state.age + 1)
