"""The configurations of the ablation, in groups with one unaccelerated reference each. Data and set arithmetic only.

Guidance and the number of steps are settings of the picture, not accelerations. A group keeps them constant. Its reference is
sequential denoising with full guidance at the same scale, without gate and cache. The stream batch has no effect at one step. At
four steps, residual guidance is also measured inside it, where negative rows double the rows of one call. The cache has a full
pass in every fifth frame; "cache/3" in every third, the studio's default, and "cache/3 flat" without the cascade. The groups of
one solver each have the caches between the steps of a frame: "steps/2" is deep features with a full pass at every second level.
The group "steady" has what lowers flicker; its figure is the warped error. The group "presets" has those of the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from benchmarks.measure import Block
from pipelines.values.settings import SOLVERS

Patch = Mapping[str, object]

OFF: Patch = {
    "stream_batch.enabled": False,
    "gate.enabled": False,
    "cache.enabled": False,
    "partial.enabled": False,
    "guidance_mode": "none",
}
BATCH: Patch = {"stream_batch.enabled": True}
GATE: Patch = {"gate.enabled": True}
CACHE: Patch = {"cache.enabled": True, "cache.policy": "interval", "cache.interval": 5}
CACHE_3: Patch = {**CACHE, "cache.interval": 3}
CACHES: Mapping[str, Patch] = {"cache/3": CACHE_3, "cache/3 flat": {**CACHE_3, "cache.cascade": False}}
STEP_CACHES: Mapping[str, Patch] = {
    f"{reuse}/{interval}": {"cache.enabled": True, "cache.reuse": reuse, "cache.interval": interval}
    for reuse in ("steps", "encoder")
    for interval in (2, 4)
}
BETWEEN_STEPS: Mapping[str, Patch] = {**STEP_CACHES, "1 step": {"steps": 1}, "2 steps": {"steps": 2}}
"""Caches between the steps of a frame, and what they must beat: fewer steps."""
CONSISTENCY: Mapping[str, Patch] = {
    f"consistency {amount}": {"consistency.enabled": True, "consistency.amount": amount} for amount in (0.4, 0.6, 0.8)
}
WARM_STARTS: Mapping[str, Patch] = {f"warm start {share}": {"noise.warm_start": share} for share in (0.3, 0.5)}
STEADY: Mapping[str, Patch] = {**CONSISTENCY, **WARM_STARTS}
"""What lowers flicker."""
PARTIAL: Patch = {"partial.enabled": True}
SELF: Patch = {"guidance_mode": "self"}
ADAPTIVE: Patch = {"guidance_mode": "adaptive"}
LINEAR: Patch = {"guidance_mode": "linear"}
RESIDUAL: Mapping[str, Patch] = {
    "self": SELF,
    "self, blur 1": {**SELF, "guidance_blur": 1.0},
    "self, blur 3": {**SELF, "guidance_blur": 3.0},
    "one-time": {"guidance_mode": "one-time"},
    "no guidance": {"guidance_mode": "none"},
}
INTERVAL: Patch = {"guidance_schedule": "interval", "interval_low": 0.1, "interval_high": 0.4}
SCHEDULED: Mapping[str, Patch] = {
    "interval": INTERVAL,
    **{kind: {"guidance_schedule": kind} for kind in ("linear", "cosine")},
}
"""γ over the levels of a frame. Only the interval saves rows; the others are other pictures."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One configuration. parts: the techniques that are on."""

    name: str
    patch: Patch
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Configurations with one reference, the first.

    techniques: together they are "all on". extras: measured alone, because they exclude one of the techniques. frames, repeats:
    default length and number of stretches. pauses: whether to measure the clip with pauses too; heads: that of a talking head.
    warped: whether to measure how steady pictures are along the input's motion.
    """

    name: str
    title: str
    base: Patch
    techniques: Mapping[str, Patch]
    extras: Mapping[str, Patch] = field(default_factory=dict)
    frames: int = 60
    repeats: int = 2
    pauses: bool = False
    warped: bool = False
    heads: bool = False

    def configurations(self) -> list[Configuration]:
        """All off, each alone, extras, all on, and all but each (with two techniques that is the other one alone)."""
        off = {**OFF, **self.base}
        parts = self.techniques
        found = [Configuration("all off", off)]
        found += [Configuration(name, {**off, **patch}, (name,)) for name, patch in (*parts.items(), *self.extras.items())]
        if len(parts) > 1:
            found.append(Configuration("all on", _joined(off, parts, parts), tuple(parts)))
        if len(parts) > 2:
            for left in parts:
                rest = [name for name in parts if name != left]
                found.append(Configuration(f"all but {left}", _joined(off, parts, rest), tuple(rest)))
        return found


def _joined(off: Patch, parts: Mapping[str, Patch], names: Iterable[str]) -> Patch:
    joined = dict(off)
    for name in names:
        joined |= parts[name]
    return joined


PRESET = "preset "
"""Before the name of a model's preset."""


def groups(guidance: float, presets: Mapping[str, Patch] = MappingProxyType({})) -> dict[str, Group]:
    """The groups by name. guidance: the scale γ of the groups with guidance. presets: of the model, for one step."""
    full: Patch = {"guidance_mode": "full", "guidance": guidance}
    found = (
        Group("one", "1 step", {"steps": 1}, {"gate": GATE, "cache": CACHE}, CACHES, pauses=True),
        Group(
            "partial",
            "1 step, only what moves",
            {"steps": 1},
            {"partial": PARTIAL},
            {"cache/3": CACHE_3, "partial and cache/3": {**PARTIAL, **CACHE_3}},
            pauses=True,
            heads=True,
        ),
        Group(
            "one-guided",
            f"1 step, guidance {guidance:g}",
            {"steps": 1, **full},
            {"self": SELF},
            {"adaptive": ADAPTIVE},
            frames=30,
        ),
        Group(
            "presets",
            "1 step, presets of the model",
            {"steps": 1},
            {},
            {"cache/3": CACHE_3, **{PRESET + name: patch for name, patch in presets.items()}},
        ),
        Group("steady", "1 step, less flicker", {"steps": 1}, {}, STEADY, frames=18, warped=True),
        Group("four", "4 steps", {"steps": 4}, {"batch": BATCH, "cache": CACHE}, CACHES, frames=18),
        *(
            Group(f"four-{name}", f"4 steps by {name}", {"steps": 4, "solver": name}, {}, BETWEEN_STEPS, frames=18, repeats=1)
            for name in SOLVERS
        ),
        Group(
            "four-guided",
            f"4 steps, guidance {guidance:g}",
            {"steps": 4, **full},
            {"batch": BATCH, "adaptive": ADAPTIVE, "gate": GATE, "cache": CACHE},
            {"self": SELF, "LinearAG": LINEAR},
            frames=18,
            repeats=1,
        ),
        Group(
            "four-guided-batch",
            f"4 steps in a stream batch, guidance {guidance:g}",
            {"steps": 4, **full, **BATCH},
            {"self": SELF},
            {"adaptive": ADAPTIVE},
            frames=18,
            repeats=1,
        ),
    )
    scheduled = Group(
        "four-guided-kinds",
        f"4 steps, kinds of guidance {guidance:g}",
        {"steps": 4, **full},
        {},
        {"adaptive": ADAPTIVE, "LinearAG": LINEAR, **RESIDUAL, **SCHEDULED},
        frames=18,
        repeats=1,
    )
    return {group.name: group for group in (*found, scheduled)}


def touched(configuration: Configuration, block: Block, places: Sequence[int]) -> set[int]:
    """The indices whose picture the configuration's techniques changed.

    Skipped frames for the gate, shallow passes for the cache, dropped negative rows for adaptive guidance and LinearAG. The
    stream batch, residual guidance, schedules, caches between steps and fewer steps change every frame.
    """
    inside = set(places)
    if {"batch", *RESIDUAL, *SCHEDULED, *BETWEEN_STEPS, *STEADY} & set(configuration.parts):
        return inside
    found: set[int] = set()
    if "gate" in configuration.parts:
        found |= block.skipped
    cached = {"cache", "partial", "partial and cache/3", *CACHES}
    if any(part in cached or part.startswith(PRESET) for part in configuration.parts):
        found |= block.cached
    if {"adaptive", "LinearAG"} & set(configuration.parts):
        found |= block.dropped_rows
    return found & inside
