"""What a session's next frame will ask of the UNet: rows by kind of pass, before anything is computed. Decides nothing.

A forecast, since some of it is only known within the step: adaptive guidance is believed to do as it did, and that a setting
has changed under what the feature cache keeps is not looked for. The engine counts what each step really took
(`StreamPipeline.worked`).
"""

from __future__ import annotations

from collections import Counter

from pipelines import feature_cache, guidance
from pipelines.feature_cache import PLAIN, Kind
from pipelines.settings import Settings
from pipelines.state import StreamState
from pipelines.types import Frame

Call = tuple[tuple[Kind, bool], int]
"""((kind of pass, whether a ControlNet has a say), UNet calls before it in the step): rows of one call are computed together."""

Work = Counter[Call]
"""Rows by call."""


def work(state: StreamState | None, frame: Frame | None, settings: Settings, controlled: bool = False) -> Work:
    """The rows that a step with this frame needs for this session; state None for one that has not begun.

    frame None: only what is in flight moves on. controlled: whether a ControlNet has a say.
    """
    needed: Work = Counter()
    for calls_before, levels in enumerate(_rounds(state, frame, settings)):
        for level in levels:
            for negative in (False, True) if _asks_negative(state, frame, level, settings) else (False,):
                needed[(_kind(state, frame, level, negative, settings), controlled), calls_before] += 1
    return needed


def _rounds(state: StreamState | None, frame: Frame | None, settings: Settings) -> list[list[int]]:
    """The levels that move, call by call: all of them once, or in sequential mode the newest until it is done."""
    held = [] if state is None else [flying.level for flying in state.ring.frames if not flying.finished]
    levels = held if frame is None else [*held, 0]
    if settings.stream_batch.enabled or not levels:
        return [levels]
    return [[level] for level in range(levels[-1], settings.steps)]


def _asks_negative(state: StreamState | None, frame: Frame | None, level: int, settings: Settings) -> bool:
    known = None if state is None else state.likeness.get(level)
    dropped = known is not None and known.age < known.due and known.cosine() >= settings.guidance_alike
    return guidance.needs_negative_row(settings, level, frame is None or frame.pixels is not None, dropped)


def _kind(state: StreamState | None, frame: Frame | None, level: int, negative: bool, settings: Settings) -> Kind:
    if not settings.cache.enabled:
        return PLAIN
    whole, *short = feature_cache.passes(settings.cache)
    if settings.cache.reuse == "frames":
        entry = None if state is None else state.cache.get((level, negative))
        if entry is None or entry.state.key is None:
            return whole
        thumb = entry.state.reference if frame is None or frame.thumb is None else frame.thumb
        reused = feature_cache.decide(entry.state, entry.state.key, thumb, settings.cache) == "reuse"
        return short[entry.turn(len(short))] if reused else whole
    if level % settings.cache.interval:
        return short[0]
    return PLAIN if level + 1 == settings.steps else whole
