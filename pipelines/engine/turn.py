"""A session's turn: one frame on its way through a step, or through several where each does a part of the work.

The work of a turn is counted in rows, in this order: one for the picture's encoding, those of the UNet, one for the decoding.
A turn that is not over keeps everything here, so other sessions' turns may come between its parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import Tensor

from pipelines.engine.decoding import Finished
from pipelines.engine.state import Row, StreamState
from pipelines.techniques.conditioning import Condition
from pipelines.techniques.stream_batch import Departure, InFlight
from pipelines.values.settings import Settings
from pipelines.values.types import Frame, StageTimings


@dataclass(frozen=True, slots=True)
class Entry:
    """One session's turn in a step. frame None lets what is in flight move on without a new frame (end of a clip).

    rows: at most so many rows of its work are done in this step; None for all. A turn that is not over by then goes on with the
    next entry of its state, which brings the same frame; settings are those of its first entry.
    """

    state: StreamState
    frame: Frame | None
    settings: Settings
    rows: int | None = None


@dataclass(slots=True, eq=False)
class Turn:
    """saved: the session's frames in flight before this one. left: rows that may still be done in this step. calls: of the UNet
    that have begun. moving: the frames that the present call moves. rows: of it, to be computed; predictions: of those that are.
    """

    entry: Entry
    saved: list[InFlight]
    conditions: tuple[Condition, Condition] | None = None  # the prompt's and the negative prompt's, once it has begun
    left: float = math.inf
    calls: int = 0
    moving: list[InFlight] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    predictions: dict[tuple[int, bool], Tensor] = field(default_factory=dict)
    departure: Departure = field(default_factory=Departure)
    timings: StageTimings = field(default_factory=StageTimings)

    def frames(self) -> list[InFlight]:
        """Whom the next UNet call serves: all in flight, once, or in sequential mode the newest alone until it is done."""
        ring, batched = self.entry.state.ring.frames, self.entry.settings.stream_batch.enabled
        chosen = ([] if self.calls else ring) if batched else ring[-1:]
        return [frame for frame in chosen if not frame.finished]

    def finished(self) -> Finished | None:
        """What leaves the stream batch in this step, with the style and how much of it the settings ask for."""
        frame, style = self.departure.frame, None if self.conditions is None else self.conditions[0].style
        if frame is None or frame.x0 is None:
            return None
        if style is not None:
            style = replace(style, amount=style.amount * self.entry.settings.style.amount)
        return Finished(frame.x0, style)

    def take(self, make: Callable[[Turn], list[Row]]) -> list[Row]:
        """The rows that are computed now: what is left of the present call, or of the next, as far as this step goes."""
        if not self.moving and self.left >= 1 and (frames := self.frames()):
            self.moving = frames
            self.rows = make(self)
            self.calls += 1
        count = int(min(len(self.rows), self.left))
        taken, self.rows = self.rows[:count], self.rows[count:]
        self.left -= count
        return taken

    def learn(self, taken: list[Row], predictions: dict[tuple[int, bool], Tensor]) -> list[InFlight]:
        """The rows that were taken have these predictions. Returns the frames that have all of theirs now and move on."""
        for row in taken:
            self.predictions[id(row.frame), row.negative] = predictions[id(row.frame), row.negative]
        if self.rows or not taken:
            return []
        moved, self.moving = self.moving, []
        return moved

    def ends(self) -> bool:
        """Whether the turn is over in this step: nothing is left to move, and what is finished may still be decoded in it."""
        if self.moving or self.frames():
            return False
        if not any(frame.finished for frame in self.entry.state.ring.frames):
            return True
        self.left -= 1
        return self.left >= 0

    def took(self, timings: StageTimings) -> None:
        """A step that did a part of this turn took so long."""
        before = self.timings
        self.timings = StageTimings(
            encode=before.encode + timings.encode,
            denoise=before.denoise + timings.denoise,
            decode=before.decode + timings.decode,
        )

    def undo(self) -> None:
        """As if the frame had never come."""
        self.entry.state.ring.restore(self.saved)
        self.entry.state.turn = None
