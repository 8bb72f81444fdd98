"""A session's turn: one frame on its way through a step, or through several steps where each does a part of the work.

The work of a turn is counted in rows, in this order: one for the picture's encoding, those of the UNet, one for the decoding.
A turn that is not over keeps everything here, so other sessions' turns may come between its parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from pipelines.engine.conditioner import Conditioning
from pipelines.engine.feedback import Feedback
from pipelines.engine.levels import FrameOutputs
from pipelines.engine.rows import Row, moving
from pipelines.engine.state import StreamState
from pipelines.techniques import regions
from pipelines.techniques.partial import Plan
from pipelines.techniques.stream_batch import Departure, InFlight
from pipelines.values.settings import Settings
from pipelines.values.types import Frame, Pixels, StageTimings


@dataclass(frozen=True, slots=True)
class Entry:
    """One session's turn in a step. frame None moves what is in flight without a new frame (end of a clip).

    rows: at most so many rows of its work are done in this step; None for all. A turn that is not over by then goes on with the
    next entry of its state, which brings the same frame; settings are those of its first entry.
    """

    state: StreamState
    frame: Frame | None
    settings: Settings
    rows: int | None = None


@dataclass(slots=True, eq=False)
class Turn:
    """saved: the session's frames in flight before this turn. conditioning: None until it has begun. plan: of
    its frame, where partial frames are on. left: rows that may still be
    done in this step. calls: UNet calls that have begun. moving: the frames of the present call; rows: of it, not computed yet;
    outputs: of the rows that are, by (id of the frame, place of the row). feedback: of the frame that leaves. last: the
    session's last result and its small input, before this turn."""

    entry: Entry
    saved: list[InFlight]
    conditioning: Conditioning | None = None
    plan: Plan | None = None
    left: float = math.inf
    calls: int = 0
    moving: list[InFlight] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    outputs: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    departure: Departure = field(default_factory=Departure)
    feedback: Feedback | None = None
    timings: StageTimings = field(default_factory=StageTimings)
    last: tuple[Tensor | None, Pixels | None] = field(init=False)

    def __post_init__(self) -> None:
        self.last = self.entry.state.previous_x0, self.entry.state.previous_small

    @property
    def conditioned(self) -> Conditioning:
        """The conditioning of a turn that has begun."""
        assert self.conditioning is not None
        return self.conditioning

    def take(self, plan: Callable[[Turn], list[Row]]) -> list[Row]:
        """The rows that are computed now: the rest of the present call, or those of the next, as far as this step goes. plan:
        gives the rows of a call that begins."""
        if not self.moving and self.left >= 1:
            self.moving = moving(self.entry.state.ring.frames, self.entry.settings, self.calls)
            if self.moving:
                self.rows = plan(self)
                self.calls += 1
        count = int(min(len(self.rows), self.left))
        taken, self.rows = self.rows[:count], self.rows[count:]
        self.left -= count
        return taken

    def receive(self, outputs: Sequence[tuple[Row, Tensor]]) -> list[FrameOutputs]:
        """Take the outputs [C, h, w] of computed rows. Returns the frames of the call once all of its rows are computed."""
        for row, output in outputs:
            self.outputs[id(row.frame), row.place] = output
        if self.rows or not outputs:
            return []
        frames, self.moving = self.moving, []
        made, self.outputs = self.outputs, {}
        state, settings, keys = self.entry.state, self.entry.settings, self.conditioned.keys
        rows = ((frame, self._conditional(frame, made), made.get((id(frame), 1))) for frame in frames)
        return [FrameOutputs(state, frame, settings, keys, output, negative) for frame, output, negative in rows]

    def _conditional(self, frame: InFlight, made: Mapping[tuple[int, int], Tensor]) -> Tensor:
        """The output for the frame's prompt; of a composed one the mean of the outputs for all of them."""
        shares, more = self.conditioned.shares, range(2, 1 + len(self.conditioned.prompts))
        outputs = [made[id(frame), place] for place in (0, *more)]
        return outputs[0] if shares is None else regions.combined(outputs, shares)

    def complete(self) -> bool:
        """Whether the turn ends in this step: no frame is left to move, and the decoding of a finished one fits in as well."""
        ring = self.entry.state.ring.frames
        if self.moving or moving(ring, self.entry.settings, self.calls):
            return False
        if not any(frame.finished for frame in ring):
            return True
        self.left -= 1
        return self.left >= 0

    def depart(self) -> None:
        """Take the finished frame out of the stream batch."""
        self.departure = self.entry.state.ring.depart()

    def end(self) -> None:
        """The turn is over and its answer stands."""
        state = self.entry.state
        state.turn = None
        if self.departure.frame is not None:
            state.answered = None if self.feedback is None else self.feedback.answered

    def undo(self) -> None:
        """Restore the session as it was before the turn."""
        self.entry.state.ring.restore(self.saved)
        self.entry.state.previous_x0, self.entry.state.previous_small = self.last
        self.entry.state.turn = None
