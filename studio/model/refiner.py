"""Which session's resting picture the model's thread refines next, in time that nobody needs. Knows no thread and no clock.

A session rests while no frame of it has been drawn for twice its usual interval; skipped frames are not drawn. The device is
idle once nothing has waited for it for as long as the next step will take: then such a step delays others by no more than it
has waited itself. A frame that comes ends the refinement of its session. Other sessions' frames only go first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines import Output, RillError, Settings, refinement
from studio.model.jobs import Job, SessionInputs, SessionState

if TYPE_CHECKING:
    from pipelines import StreamPipeline

log = logging.getLogger("rill")

LEAST_REST_S = 0.1
MOST_REST_S = 2.0
INTERVALS = 2.0
"""A frame that is later than so many usual intervals is taken not to come."""

SHOW_S = 0.1
"""Pictures on the way are shown no more often than that; the last one always is."""


@dataclass(slots=True)
class Resting:
    """A session whose last frame was drawn at `drawn_at`, with these settings. refinement: the pipeline's, once it has begun."""

    job: Job
    settings: Settings
    drawn_at: float
    refinement: Any = None
    shown_at: float = 0.0


@dataclass(slots=True)
class Pace:
    """A session's usual seconds between drawn frames, and the account of its refinements."""

    drawn_at: float
    interval: float = 0.0
    budget: refinement.Budget | None = None

    def drawn(self, now: float) -> None:
        gap, self.drawn_at = now - self.drawn_at, now
        if gap < MOST_REST_S:
            self.interval = gap if not self.interval else self.interval + 0.3 * (gap - self.interval)

    @property
    def rest_s(self) -> float:
        return min(max(LEAST_REST_S, INTERVALS * self.interval), MOST_REST_S)


@dataclass(slots=True)
class Refiner:
    """One model's. The caller sees to it that one thread at a time uses it. now: seconds."""

    _resting: dict[str, Resting] = field(default_factory=dict)
    _paces: dict[str, Pace] = field(default_factory=dict)
    _busy_at: float = 0.0
    _step_s: float = 0.0

    def drawn(self, job: Job, output: Output, now: float, rests: bool) -> None:
        """A job was done. rests: no other of its session waits."""
        pace = self._paces.setdefault(job.session, Pace(now))
        pace.drawn(now)
        settings = job.inputs.settings
        shown = output.pixels is not None and not output.changing and output.settings_version == settings.version
        if rests and shown and job.on_refined is not None:
            self._resting[job.session] = Resting(job, settings, now)

    def busy(self, now: float) -> None:
        """The device has worked for somebody until now."""
        self._busy_at = now

    def moved(self, session: str) -> None:
        """A frame has come: what was refined is of the past."""
        self._resting.pop(session, None)

    def forget(self, session: str) -> None:
        """The session has ended."""
        self._resting.pop(session, None)
        self._paces.pop(session, None)

    def clear(self) -> None:
        """All states are new."""
        self._resting.clear()

    def wait_s(self, now: float) -> float | None:
        """Seconds until a step is due, 0 if one is; None where nothing is to be refined."""
        due = [self._due_at(session) for session in self._resting]
        return max(0.0, min(due) - now) if due else None

    def _due_at(self, session: str) -> float:
        resting, pace = self._resting[session], self._paces[session]
        paid = pace.budget.due_at if pace.budget is not None else 0.0
        return max(resting.drawn_at + pace.rest_s, self._busy_at + self._step_s, paid)

    def next(self, now: float) -> Resting | None:
        """The refinement whose step is due, the one that rests longest first."""
        due = [session for session in self._resting if self._due_at(session) <= now]
        return self._resting[min(due, key=lambda session: self._resting[session].drawn_at)] if due else None

    def step(self, resting: Resting, pipeline: StreamPipeline, held: SessionState | None, clock: Callable[[], float]) -> None:
        """Take a refinement one level on, and hand its picture to the session. One that fails, or is over, ends."""
        session, started = resting.job.session, clock()
        try:
            if held is None or not _unchanged(resting, held):
                return self._end(resting)
            if resting.refinement is None:
                resting.refinement, resting.shown_at = pipeline.refinement(held.state, resting.settings), started
            if resting.refinement is None:  # nothing to gain
                return self._end(resting)
            output = pipeline.refine(resting.refinement, started - resting.shown_at >= SHOW_S)
        except Exception as error:  # a model may fail in any way; the session keeps the picture that it has
            log.error("session %s: refining failed", session, exc_info=None if isinstance(error, RillError) else error)
            return self._end(resting)
        self._spend(session, resting.settings.refine.share, started, clock())
        if resting.refinement.over:
            self._end(resting)
        if output is not None and resting.job.on_refined is not None:
            resting.shown_at = clock()
            resting.job.on_refined(output)

    def _spend(self, session: str, share: float, started: float, ended: float) -> None:
        self._step_s = ended - started
        pace = self._paces.get(session)
        if pace is not None:
            known = pace.budget
            budget = known if known is not None and known.share == share else refinement.Budget.full(share, started)
            pace.budget = budget.later(ended).spent(ended - started)

    def _end(self, resting: Resting) -> None:
        if self._resting.get(resting.job.session) is resting:
            self._resting.pop(resting.job.session, None)


def _unchanged(resting: Resting, held: SessionState) -> bool:
    """Whether the session still has what its picture was drawn with."""
    now: SessionInputs = resting.job.inputs
    names = now.names is held.names or not (len(now.names) or held.names)
    same = now.mask is held.mask and now.picture is held.picture and now.picture_b is held.picture_b
    return names and same and now.settings is resting.settings
