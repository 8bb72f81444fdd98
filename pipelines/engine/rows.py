"""The planner of rows: which frames the next UNet call of a session moves, which rows that takes, and which pass each row takes.

The step takes its rows from here, and the forecast (forecast.py) calls the same functions for calls that have not come yet. The
planner reads what a session remembers and changes nothing; feature_memory.py writes.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from torch import Tensor

from pipelines.engine.state import CacheSlot, FeatureEntry
from pipelines.techniques import feature_cache, first_levels, guidance
from pipelines.techniques.feature_cache import AS_BEFORE, PLAIN, CacheKey, Kind
from pipelines.techniques.guidance import NegativeMemory
from pipelines.techniques.stream_batch import InFlight, KeptFeatures
from pipelines.values.settings import (
    CacheSettings,
    ConsistencySettings,
    GateSettings,
    PartialSettings,
    ProbeSettings,
    RefineSettings,
    Settings,
    StreamBatchSettings,
)

KEEPING: Kind = ("keeping", None)
WINDOW: Kind = ("window", None)
HALVED: Kind = ("first", None)
SMALL: Kind = ("small", None)
"""The passes of partial frames: a whole one that keeps its statistics, and one on a window, which takes them. The passes of
the first levels, by RAU-Net or a smaller UNet, which neither keep nor take anything: no features cross the networks."""


class First(NamedTuple):
    """The pass that the first levels take, and their share of the levels, 0..1."""

    kind: Kind
    share: float


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a UNet call.

    negative: it has the negative prompt. part: which of the prompts of a composed one it has. kind: the pass that it takes. key:
    what the features that this pass keeps belong to; None if it keeps none. features: of an earlier pass, which a short pass
    takes; without the batch dimension. kept: the earlier level of the same frame that they are of, if they are of one.
    """

    frame: InFlight
    negative: bool = False
    kind: Kind = PLAIN
    key: CacheKey | None = None
    features: tuple[Tensor, ...] = ()
    kept: KeptFeatures | None = None
    part: int = 0

    @property
    def place(self) -> int:
        """Among the rows of its frame: 0 the prompt, 1 the negative one, then the further prompts of a composed one."""
        return self.part + 1 if self.part else int(self.negative)

    @property
    def slot(self) -> CacheSlot:
        return self.frame.level, self.place

    def controlled(self, scale: float) -> bool:
        """Whether a ControlNet at this scale takes part."""
        return self.frame.hint is not None and scale > 0.0


class Keys(Protocol):
    """What remembered results belong to. A result is used again under an equal key only."""

    def features(self, frame: InFlight) -> CacheKey:
        """Of the features that a pass of this frame keeps."""
        ...

    def guidance(self, frame: InFlight) -> Hashable:
        """Of the residual of this frame's negative row."""
        ...


class PictureKeys:
    """Keys of one session in one step: all that a picture depends on besides the input.

    size: of the latent, (height, width). travel: how far the session is on its way between prompts, 0..1. embedded_guidance: γ
    that the network itself takes, None for a network that takes none.
    """

    def __init__(self, settings: Settings, size: tuple[int, int], travel: float, embedded_guidance: float | None) -> None:
        self._settings, self._size, self._travel, self._embedded = settings, size, travel, embedded_guidance
        self._relevant = replace(
            settings,
            version=0,
            stream_batch=StreamBatchSettings(),
            gate=GateSettings(),
            cache=CacheSettings(),
            partial=PartialSettings(),
            probe=ProbeSettings(),
            refine=RefineSettings(),
            consistency=ConsistencySettings(),
        )

    def features(self, frame: InFlight) -> CacheKey:
        cache, (height, width) = self._settings.cache, self._size
        timestep = frame.timestep if cache.reuse == "frames" else frame.timesteps[0]
        rest = self._picture(frame), self._embedded
        return CacheKey(width, height, cache.reuse, cache.branch, timestep, self._settings.seed, rest)

    def guidance(self, frame: InFlight) -> Hashable:
        return self._picture(frame), frame.timesteps, frame.level

    def _picture(self, frame: InFlight) -> Hashable:
        return self._relevant, self._travel, frame.inputs_version, frame.scene, frame.hint is not None, frame.source is None


class AssumedKeys:
    """Keys for a forecast, which assumes that nothing but the input changes: equal to every key."""

    def features(self, frame: InFlight) -> CacheKey:
        return AS_BEFORE

    def guidance(self, frame: InFlight) -> Hashable:
        return AS_BEFORE


def moving(frames: Sequence[InFlight], settings: Settings, calls: int) -> list[InFlight]:
    """The frames in flight (oldest first) that the next UNet call of a turn moves, after so many calls: all of them, once; in
    sequential mode the newest alone, until it is done."""
    chosen = frames[-1:]
    if settings.stream_batch.enabled:
        chosen = () if calls else frames
    return [frame for frame in chosen if not frame.finished]


class RowPlanner:
    """Plans the rows of one session.

    cache, residuals: what the session remembers. graphs_ready: the graphs of the feature cache's passes can run; without them
    every row takes the plain full pass. prompts: number of those that a composed prompt has, 1 for another. first: of the first
    levels, None where they take no other pass.
    """

    def __init__(
        self,
        settings: Settings,
        cache: Mapping[CacheSlot, FeatureEntry],
        residuals: Mapping[int, NegativeMemory],
        keys: Keys,
        graphs_ready: bool,
        prompts: int = 1,
        first: First | None = None,
    ) -> None:
        self._settings, self._cache, self._residuals, self._keys = settings, cache, residuals, keys
        self._prompts, self._first = prompts, first
        self._reuses = settings.cache.enabled and graphs_ready
        self._passes = feature_cache.passes(settings.cache)

    @property
    def reuses_frames(self) -> bool:
        """Whether features of earlier frames are used again."""
        return self._reuses and self._settings.cache.reuse == "frames"

    def rows(self, frames: Sequence[InFlight]) -> list[Row]:
        """The rows that move these frames one level: one for each frame, those of further prompts, then the negative rows that
        guidance needs."""
        rows = [Row(frame, part=part) for part in range(self._prompts) for frame in frames]
        rows += [Row(frame, negative=True) for frame in frames if self._needs_negative_row(frame)]
        return [self._passed(row) for row in rows]

    def _passed(self, row: Row) -> Row:
        """The row with its pass."""
        if _is_partial(row.frame):
            return self._partial(row)
        first = self._first
        if first is not None and first_levels.inside(row.frame.level, len(row.frame.timesteps), first.share):
            return replace(row, kind=first.kind)
        return self._reusing(row)

    def _reusing(self, row: Row) -> Row:
        """The row by the feature cache."""
        if not self._reuses:
            return row
        return self._across_frames(row) if self.reuses_frames else self._across_steps(row)

    def _partial(self, row: Row) -> Row:
        """The row on a window, with the statistics of a whole frame, or whole and keeping them."""
        plan = row.frame.plan
        if plan is None or plan.window is None or plan.kept is None:
            return replace(row, kind=KEEPING)
        return replace(row, kind=WINDOW, features=(plan.kept.statistics[row.slot],))

    def _needs_negative_row(self, frame: InFlight) -> bool:
        settings, levels = self._settings, guidance.guided(self._settings, frame.shares)
        if frame.level not in levels:
            return False
        place, known = levels.index(frame.level), self._residuals.get(frame.level)
        reusable = known is not None and known.reusable(self._keys.guidance(frame), frame.thumb, settings.guidance_alike)
        if settings.guidance_mode == "linear":
            reusable = reusable and all(level in frame.predicted for level in levels[:place])
        return guidance.needs_negative_row(settings, place, frame.source is not None, reusable, len(levels))

    def _across_frames(self, row: Row) -> Row:
        """The row with a short pass and the features of an earlier frame, where the policy allows it; else with the full pass."""
        key, thumb = self._keys.features(row.frame), row.frame.thumb
        whole, *short = self._passes
        entry = self._cache.get(row.slot)
        cache, level = self._settings.cache, row.frame.level
        if entry is None or feature_cache.decide(entry.state, key, thumb, cache, level) == "full":
            return replace(row, key=key, kind=whole)
        second = bool(entry.relayed) and feature_cache.shallow(cache, level, entry.state.age)
        kind, features = (short[1], entry.relayed) if second else (short[0], entry.features)
        return replace(row, key=key if kind[0] == "relay" else None, kind=kind, features=features)

    def _across_steps(self, row: Row) -> Row:
        """The row with the short pass and the features of an earlier level of its frame, where the policy allows it. The plain
        pass where a full one would keep features that no later level can use."""
        frame, key = row.frame, self._keys.features(row.frame)
        whole, short = self._passes  # nothing cascades within a frame
        kept = frame.kept.get(row.place)
        since = frame.level - (kept.level if kept is not None else 0)
        if kept is not None and feature_cache.decide_level(kept.key, since, key, self._settings.cache) == "reuse":
            return replace(row, kind=short, features=kept.features, kept=kept)
        last = frame.level + 1 == len(frame.timesteps)
        return row if last else replace(row, key=key, kind=whole)


def _is_partial(frame: InFlight) -> bool:
    return frame.plan is not None and (frame.plan.window is not None or frame.plan.keeps)
