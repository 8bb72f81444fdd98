"""Partial frames in the engine: what each frame's plan is, what is encoded for it, and what a session keeps of it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

import numpy as np

from pipelines.engine.graph_choice import GraphChoice
from pipelines.engine.partial_memory import PartialPicture
from pipelines.engine.state import StreamState
from pipelines.techniques import partial
from pipelines.techniques.partial import Kept, Plan
from pipelines.techniques.stream_batch import InFlight
from pipelines.values.settings import CacheSettings, GateSettings, PartialSettings, ProbeSettings, Settings
from pipelines.values.types import Frame, Pixels


class PartialFrames:
    """Of one pipeline."""

    def __init__(self, choice: GraphChoice, size: tuple[int, int]) -> None:
        """size: of the pictures, (height, width)."""
        self._choice, self._size = choice, size

    def plan(self, state: StreamState, frame: Frame | None, settings: Settings) -> Plan | None:
        """How a frame is going to be computed; None where partial frames are off, or cannot be. The same plan for the same frame
        as long as the session has finished no other."""
        if not settings.partial.enabled or frame is None or not self._fits(frame.pixels) or state.changing:
            return None
        painted = self._choice.paints(settings, state.pictured, state.names)
        if self._choice.whole_frames(settings, painted) is not None or not self._choice.partial_ready(painted):
            return None
        memory, key = state.partial, _key(state, settings, painted)
        if memory.plan is not None and memory.pixels is frame.pixels and memory.before is memory.kept and memory.key == key:
            return memory.plan
        assert frame.pixels is not None
        kept = memory.kept
        if kept is not None and (kept.style is not None) != painted:
            kept = replace(kept, statistics={})  # until a painted picture has left the painter's statistics
        made = partial.plan(kept, key, partial.small(frame.pixels), settings.partial)
        memory.pixels, memory.before, memory.key, memory.plan = frame.pixels, memory.kept, key, made
        return made

    def _fits(self, pixels: Pixels | None) -> bool:
        """Whether these are pixels of the stream's size; others are refused where they are encoded."""
        return pixels is not None and pixels.shape == (*self._size, 3) and pixels.dtype == np.uint8

    def keep(self, state: StreamState, frame: InFlight, picture: PartialPicture | None) -> None:
        """A frame is finished: keep of it what the next one may take."""
        state.partial.kept = None if picture is None else _kept(picture, frame)
        state.partial.plan = state.partial.pixels = None


def cut(pixels: Pixels, plan: Plan | None) -> Pixels:
    """What is encoded of a picture, uint8 [H, W, 3]: its window, or all of it."""
    window = None if plan is None else plan.window
    return pixels if window is None else np.ascontiguousarray(pixels[window.rows, window.columns])


def _kept(picture: PartialPicture, frame: InFlight) -> Kept:
    plan, seen = picture.plan, partial.seen_after(picture.plan)
    if plan.window is None or plan.kept is None:
        return Kept(plan.key, seen, picture.pixels if plan.keeps else None, frame.statistics, picture.style)
    return replace(plan.kept, seen=seen, picture=picture.pixels, window=plan.window, age=plan.kept.age + 1)


def _key(state: StreamState, settings: Settings, painted: bool) -> Hashable:
    """All that a picture depends on besides the input."""
    relevant = replace(settings, version=0, gate=GateSettings(), cache=CacheSettings())
    relevant = replace(relevant, partial=PartialSettings(), probe=ProbeSettings())
    return relevant, state.inputs_version, state.pictures_version, painted
