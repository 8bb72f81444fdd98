"""The rows that a session's next turn will need, by call, before anything is computed.

Runs through the calls of the turn with outlines of the frames, which have levels and no tensors, and takes every decision from
the planner (rows.py). It is a forecast, since some of it is only known within the step: it assumes that adaptive guidance decides
as it did, and that no setting has changed under remembered results.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from pipelines.engine.rows import Row, RowPlanner, moving
from pipelines.engine.state import StreamState
from pipelines.engine.turn import Turn
from pipelines.engine.work import DECODE, ENCODE, ENCODE_WINDOW, PAINT, Call, Work, call, of_pictures
from pipelines.techniques.feature_cache import AS_BEFORE
from pipelines.techniques.partial import Plan
from pipelines.techniques.schedule import Schedule
from pipelines.techniques.stream_batch import InFlight, KeptFeatures
from pipelines.values.settings import Settings
from pipelines.values.types import Frame

NO_TENSOR = torch.empty(0)


def of_frame(
    state: StreamState | None,
    frame: Frame | None,
    settings: Settings,
    planner: RowPlanner,
    controlled: bool,
    painted: bool,
    schedule: Schedule,
    plan: Plan | None = None,
) -> Work:
    """The rows of a turn with this frame; frame None only moves what is in flight. state None: a session that has not begun.

    planner: with assumed keys. controlled: a ControlNet takes part. painted: finished pictures go through the painter.
    plan: of the frame, where partial frames are on.
    """
    work = Work()
    frames = [] if state is None else [replace(one) for one in state.ring.frames]
    if frame is not None:
        if frame.pixels is not None:
            work[ENCODE if plan is None or plan.window is None else ENCODE_WINDOW] = 1
        frames.append(replace(_outline(frame, settings, controlled, schedule), plan=plan))
    return _run_through(work, frames, settings, planner, 0, 0, painted)


def of_turn(turn: Turn, planner: RowPlanner, painted: bool) -> Work:
    """The rows that a turn which has begun still needs."""
    work, settings = Work(), turn.entry.settings
    frames = {id(frame): replace(frame) for frame in turn.entry.state.ring.frames}
    position = 0
    if turn.moving:
        for row in turn.rows:
            work[call(row, settings.control.scale, 0)] += 1
        _move([replace(row, frame=frames[id(row.frame)]) for row in turn.rows], [frames[id(one)] for one in turn.moving])
        position = 1
    return _run_through(work, list(frames.values()), settings, planner, turn.calls, position, painted)


def _run_through(
    work: Work, frames: list[InFlight], settings: Settings, planner: RowPlanner, calls: int, position: int, painted: bool
) -> Work:
    """Add the rows of all calls still to come. calls: of the turn so far. position: of the next call in the step."""
    while chosen := moving(frames, settings, calls):
        rows = planner.rows(chosen)
        for row in rows:
            work[call(row, settings.control.scale, position)] += 1
        _move(rows, chosen)
        calls, position = calls + 1, position + 1
    done = [frame for frame in frames if frame.finished]
    if done:
        work[_picture(done[-1].plan, painted)] = 1
    return work


def _picture(plan: Plan | None, painted: bool) -> Call:
    """The call that makes the picture of a finished frame."""
    if plan is not None and plan.window is not None and plan.kept is not None:
        return of_pictures("decode-window" if plan.kept.style is None else "paint-window")
    if painted:
        return of_pictures("paint-keeping") if plan is not None and plan.keeps else PAINT
    return DECODE


def _move(rows: list[Row], frames: list[InFlight]) -> None:
    """Move outlines one level on, with what their rows keep for later levels of the same frame."""
    for row in rows:
        if row.key is not None and not row.features:
            frame = row.frame
            kept = KeptFeatures(row.key, frame.level, NO_TENSOR, NO_TENSOR, NO_TENSOR, (NO_TENSOR,))
            frame.kept = {**frame.kept, row.place: kept}
    for frame in frames:
        frame.predicted = {**frame.predicted, frame.level: (NO_TENSOR, NO_TENSOR)}
        frame.level += 1


def _outline(frame: Frame, settings: Settings, controlled: bool, schedule: Schedule) -> InFlight:
    """A frame that has not come yet as it will be admitted, without its tensors."""
    pixels = frame.pixels is not None
    strength = settings.strength if pixels else 1.0
    return InFlight(
        frame.id,
        NO_TENSOR,
        NO_TENSOR if pixels else None,
        schedule.timesteps(strength, settings.steps, schedule.resolved(settings.solver)),
        length=schedule.length,
        thumb=AS_BEFORE if pixels and frame.thumb is None else frame.thumb,
        hint=NO_TENSOR if controlled else None,
    )
