"""The model's one owner: a thread that does nothing but the model. Nobody else ever calls into the engine's step.

Each turn takes what every session has waiting into one step, so that turns are fair and frames share a UNet call.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from pipelines import Entry, Frame, Mask, Output, RillError, Settings, StreamPipeline, StreamState

log = logging.getLogger("rill")

MAX_SESSIONS_PER_STEP = 16


class Holder(Protocol):
    """Somebody whose settings and painted mask are swapped whole."""

    settings: Settings
    mask: Mask | None


@dataclass(frozen=True, slots=True)
class Turned:
    """How a job went. output is None if error says why; in_flight frames remain in the stream batch; wait in milliseconds."""

    output: Output | None
    error: str | None
    in_flight: int
    wait_ms: float
    taken_at: float


@dataclass(frozen=True, slots=True)
class Job:
    """One session's turn: a frame, or None to let what is in flight move on. `done` is called on the owner thread, once."""

    session: str
    holder: Holder
    frame: Frame | None
    ready_at: float
    done: Callable[[Turned], None]


@dataclass(slots=True)
class Held:
    """A session's state, and the mask that it was given last."""

    state: StreamState
    mask: Mask | None = None


class Owner:
    """The thread with the model. `loaded` resolves to the pipeline or to the reason why there is none."""

    def __init__(self, factory: Callable[[], StreamPipeline], clock: Callable[[], float] = time.perf_counter) -> None:
        self.loaded: Future[StreamPipeline] = Future()
        self.stepped: Callable[[int], None] = lambda sessions: None
        self._factory = factory
        self._clock = clock
        self._wake = threading.Condition()
        self._waiting: dict[str, Job] = {}
        self._gone: set[str] = set()
        self._states: dict[str, Held] = {}
        self._failed: set[str] = set()
        self._stepping_since: float | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="rill-model", daemon=True)

    def start(self) -> None:
        """Begin to load the model."""
        self._thread.start()

    def offer(self, job: Job) -> Job | None:
        """Hand in a job; returns the session's older one if that had not been taken yet: it will never be done."""
        with self._wake:
            if self._closed:
                return job
            older = self._waiting.pop(job.session, None)
            self._waiting[job.session] = job
            self._gone.discard(job.session)
            self._wake.notify()
            return older

    def forget(self, session: str) -> None:
        """The session is over: drop its job and its state."""
        with self._wake:
            self._waiting.pop(session, None)
            self._gone.add(session)
            self._wake.notify()

    def stalled_s(self) -> float:
        """For how long the present step has been running; 0 between steps."""
        since = self._stepping_since
        return 0.0 if since is None else self._clock() - since

    def close(self, timeout: float = 30.0) -> None:
        """End the thread after its present step, and release the model."""
        with self._wake:
            self._closed = True
            self._waiting.clear()
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            pipeline = self._factory()
        except Exception as error:  # whatever a model file does to its reader, the server stays up and says why
            log.error("the model cannot be loaded: %s", error, exc_info=not isinstance(error, RillError))
            self.loaded.set_exception(error)
            return
        self.loaded.set_result(pipeline)
        try:
            while (jobs := self._next()) is not None:
                self._turn(pipeline, jobs)
        finally:
            self._states.clear()
            pipeline.close()

    def _next(self) -> list[Job] | None:
        """Everybody's waiting job, oldest first; blocks until there is one. None at the end."""
        with self._wake:
            while not self._waiting and not self._closed and not self._gone:
                self._wake.wait()
            for session in self._gone:
                self._states.pop(session, None)
                self._failed.discard(session)
            self._gone.clear()
            if self._closed:
                return None
            names = list(self._waiting)[:MAX_SESSIONS_PER_STEP]
            return [self._waiting.pop(name) for name in names]

    def _turn(self, pipeline: StreamPipeline, jobs: list[Job]) -> None:
        if not jobs:
            return
        self._stepping_since = taken_at = self._clock()
        outcomes = self._step(pipeline, jobs)
        self._stepping_since = None
        self.stepped(len(jobs))
        for job, outcome in zip(jobs, outcomes, strict=True):
            held = self._states.get(job.session)
            wait_ms = (taken_at - job.ready_at) * 1000
            output, error = (outcome, None) if isinstance(outcome, Output) else (None, outcome)
            job.done(Turned(output, error, 0 if held is None else held.state.in_flight, wait_ms, taken_at))

    def _step(self, pipeline: StreamPipeline, jobs: list[Job]) -> list[Output | str]:
        """One outcome per job: its Output, or what went wrong. A session that fails loses its state, the others keep theirs."""
        try:
            return list(pipeline.step([self._entry(pipeline, job) for job in jobs]))
        except Exception as error:  # a model may fail in any way; which session it was shows when each is run alone
            failure = error
        if len(jobs) > 1:
            return [outcome for job in jobs for outcome in self._step(pipeline, [job])]
        session = jobs[0].session
        self._states.pop(session, None)
        if session not in self._failed:  # once per session: it may fail on every frame
            self._failed.add(session)
            log.error("session %s: the model failed", session, exc_info=None if isinstance(failure, RillError) else failure)
        return [str(failure) if isinstance(failure, RillError) else f"the model failed on this frame ({type(failure).__name__})"]

    def _entry(self, pipeline: StreamPipeline, job: Job) -> Entry:
        settings, mask = job.holder.settings, job.holder.mask  # the snapshot of this step
        held = self._states.get(job.session)
        if held is None:
            held = self._states[job.session] = Held(pipeline.open(settings))
        if mask is not held.mask:
            held.state.set_mask(mask)
            held.mask = mask
        return Entry(held.state, job.frame, settings)
