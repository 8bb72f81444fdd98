"""What a session's next frame will ask of the engine: rows by call, before anything is computed. Decides nothing.

A forecast, since some of it is only known within the step: adaptive guidance is believed to do as it did, and that a setting
has changed under what the feature cache keeps is not looked for. The engine counts what each step really took
(`StreamPipeline.worked`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pipelines.engine.state import StreamState
from pipelines.engine.turn import Turn
from pipelines.engine.work import DECODE, ENCODE, PAINT, Work
from pipelines.techniques import feature_cache, guidance
from pipelines.techniques.feature_cache import PLAIN, Kind
from pipelines.values.settings import Settings
from pipelines.values.types import Frame


def work(
    state: StreamState | None, frame: Frame | None, settings: Settings, controlled: bool = False, painted: bool = False
) -> Work:
    """The rows that a step with this frame needs for this session; state None for one that has not begun.

    frame None: only what is in flight moves on. controlled: whether a ControlNet has a say. painted: whether there is paint on
    what is done.
    """
    needed: Work = Counter()
    if frame is not None and frame.pixels is not None:
        needed[ENCODE] = 1
    rounds = _rounds(state, frame, settings)
    _add(needed, rounds, state, frame, settings, controlled)
    if rounds[0] and _departs(state, frame, settings):
        needed[PAINT if painted else DECODE] = 1
    return needed


def rest(turn: Turn, controlled: bool = False, painted: bool = False) -> Work:
    """The rows that a turn which has begun still needs."""
    state, settings = turn.entry.state, turn.entry.settings
    needed: Work = Counter()
    if not turn.calls:
        _add(needed, _rounds(state, None, settings), state, None, settings, controlled)
    else:
        for row in turn.rows:
            needed[(row.kind, row.control > 0.0), 0] += 1
        if not settings.stream_batch.enabled:
            first = state.ring.frames[-1].level + bool(turn.moving)
            later = [[level] for level in range(first, settings.steps)]
            _add(needed, later, state, None, settings, controlled, int(bool(turn.moving)))
    if _departs(state, None, settings):
        needed[PAINT if painted else DECODE] = 1
    return needed


def _add(
    needed: Work,
    rounds: Sequence[Sequence[int]],
    state: StreamState | None,
    frame: Frame | None,
    settings: Settings,
    controlled: bool,
    calls_before: int = 0,
) -> None:
    for place, levels in enumerate(rounds, calls_before):
        for level in levels:
            for negative in (False, True) if _asks_negative(state, frame, level, settings) else (False,):
                needed[(_kind(state, frame, level, negative, settings), controlled), place] += 1


def _departs(state: StreamState | None, frame: Frame | None, settings: Settings) -> bool:
    """Whether a frame is done at the end of the step."""
    if not settings.stream_batch.enabled or (frame is not None and settings.steps == 1):
        return True
    return state is not None and any(flying.level + 1 >= len(flying.timesteps) for flying in state.ring.frames)


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
