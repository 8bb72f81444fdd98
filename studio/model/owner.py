"""The model's one owner: a thread that does nothing but the model. Nobody else ever calls into the engine's step.

Each turn takes the freshest frames of those sessions into one step that the scheduler chooses (studio/model/scheduler.py), or
parts of them: a frame that has begun stays here until its last part is done. Between two turns the pipeline may be swapped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol

from pipelines import Entry, Frame, Mask, Output, Pixels, RillError, Settings, StreamPipeline, StreamSpec, StreamState
from studio.model.scheduler import Scheduler, Waiting
from studio.pictures import codec

log = logging.getLogger("rill")


class Holder(Protocol):
    """Somebody whose settings, painted mask and picture prompt are swapped whole."""

    settings: Settings
    mask: Mask | None
    picture: Pixels | None


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
    """One session's turn: a frame, or None to let what is in flight move on. `done` is called on the owner thread, once; `near`
    at the beginning of each step after which it is probably this job's turn. `unused` is for whoever gets the job back from
    `offer`: what becomes of it instead.
    """

    session: str
    holder: Holder
    frame: Frame | None
    ready_at: float
    done: Callable[[Turned], None]
    near: Callable[[], None] = lambda: None
    unused: Callable[[], None] = lambda: None


@dataclass(slots=True)
class Held:
    """A session's state, and the mask and the picture prompt that it was given last."""

    state: StreamState
    mask: Mask | None = None
    picture: Pixels | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A job of whose frame some parts are done, or that is in the present step. taken_at: when its first step began."""

    job: Job
    taken_at: float
    rows: int | None = None  # that it may have in the present step; None for all


Lost = Mapping[str, tuple[int, ...]]
"""Session → ids of its frames that were inside the stream batch of a pipeline that went."""


@dataclass(frozen=True, slots=True)
class Swap:
    """A pipeline that waits for its turn. `told` is called on the owner thread as soon as it runs, right after `done`."""

    pipeline: StreamPipeline
    told: Callable[[Lost], None]
    done: Future[None]


class Owner:
    """The thread with the model. `loaded` resolves to the pipeline or to the reason why there is none; after a swap it is another
    Future, so that nobody who looks sees half a change.
    """

    def __init__(
        self,
        factory: Callable[[], StreamPipeline],
        clock: Callable[[], float] = time.perf_counter,
        make_scheduler: Callable[[], Scheduler] = Scheduler,
    ) -> None:
        self.loaded: Future[StreamPipeline] = Future()
        self.stepped: Callable[[int], None] = lambda sessions: None
        self.load = (0, 0.0)  # sessions that have been served, and seconds that one frame of each takes
        self._factory = factory
        self._clock = clock
        self._wake = threading.Condition()
        self._waiting: dict[str, Job] = {}
        self._since: dict[str, float] = {}  # when the first of the jobs came that have waited in each other's place
        self._begun: dict[str, Begun] = {}
        self._gone: set[str] = set()
        self._states: dict[str, Held] = {}
        self._failed: set[str] = set()
        self._swap: Swap | None = None
        self._make_scheduler = make_scheduler
        self._scheduler = make_scheduler()
        self._stepping_since: float | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="rill-model", daemon=True)

    def start(self) -> None:
        """Begin to load the model."""
        self._thread.start()

    def offer(self, job: Job) -> Job | None:
        """Hand in a job; returns the one that will never be done, if there is one: the session's older job if that has not been
        taken yet, or this one if it has no frame. A job without a frame takes nobody's place: what waits lets the stream batch
        move on as well, and a frame that waits would be lost.
        """
        with self._wake:
            if self._closed or (job.frame is None and job.session in self._waiting):
                return job
            older = self._waiting.pop(job.session, None)
            self._waiting[job.session] = job
            self._since[job.session] = job.ready_at if older is None else self._since[job.session]
            self._gone.discard(job.session)
            self._wake.notify()
            return older

    def swap(self, pipeline: StreamPipeline, told: Callable[[Lost], None]) -> Future[None]:
        """Go on with another pipeline after the present step: every session gets a fresh state, the old pipeline is closed.

        Frames that wait are kept, and fitted to the new size. The Future is cancelled if the owner ends before; the new
        pipeline is closed then. One at a time.
        """
        done: Future[None] = Future()
        with self._wake:
            assert self._swap is None, "one swap at a time"
            if not self._closed:
                self._swap = Swap(pipeline, told, done)
                self._wake.notify()
                return done
        pipeline.close()
        done.cancel()
        return done

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
        del pipeline  # or this thread would hold it long after it has been swapped
        try:
            while (jobs := self._next()) is not None:
                self._exchange()
                self._turn(self.loaded.result(), jobs)
        finally:
            self._states.clear()
            self.loaded.result().close()
            if self._swap is not None:
                self._swap.pipeline.close()
                self._swap.done.cancel()

    def _exchange(self) -> None:
        """Take the pipeline that waits, if one does."""
        with self._wake:
            swap, self._swap = self._swap, None
        if swap is None:
            return
        begun = {name: one.job.frame.id for name, one in self._begun.items() if one.job.frame is not None}  # these begin anew
        frames = {name: tuple(id for id in held.state.frames if id != begun.get(name)) for name, held in self._states.items()}
        lost = {name: ids for name, ids in frames.items() if ids}
        self._states.clear()
        self._failed.clear()
        self._scheduler = self._make_scheduler()  # nothing is known of what the new one's steps take
        old, loaded = self.loaded.result(), Future[StreamPipeline]()
        loaded.set_result(swap.pipeline)
        self.loaded = loaded
        old.close()
        swap.done.set_result(None)
        swap.told(lost)

    def _next(self) -> list[Begun] | None:
        """The next step's jobs; blocks until there is something to do. None at the end, no jobs for a mere swap or farewell."""
        with self._wake:
            while not (self._waiting or self._begun or self._closed or self._gone or self._swap):
                self._wake.wait()
            for session in self._gone:
                self._states.pop(session, None)
                self._begun.pop(session, None)
                self._failed.discard(session)
                self._since.pop(session, None)
                self._scheduler.forget(session)
            self._gone.clear()
            if self._closed:
                return None
            waiting = {name: (job, self._since[name]) for name, job in self._waiting.items()}
        waiting |= {name: (begun.job, begun.job.ready_at) for name, begun in self._begun.items()}
        pipeline = self.loaded.result()
        demands = [self._demand(pipeline, job, since) for job, since in waiting.values()]
        chosen = self._scheduler.choose(demands)
        rest = [one for one in demands if chosen.get(one.session, 0) < max(1, sum(one.demand.values()))]
        soon = [session for session in self._scheduler.expect(rest) if session not in chosen and session not in self._begun]
        wanted = {one.session: sum(one.demand.values()) for one in demands}
        now = self._clock()
        with self._wake:  # who has a fresher frame by now enters with that one
            jobs = [self._take(session, rows if rows < wanted[session] else None, now) for session, rows in chosen.items()]
            nearing = [self._waiting[session] for session in soon if session in self._waiting]
        for job in nearing:
            job.near()
        return [job for job in jobs if job is not None]

    def _take(self, session: str, rows: int | None, now: float) -> Begun | None:
        """The session's job for the next step; None if the session is over."""
        begun = self._begun.get(session)
        if begun is not None:
            return replace(begun, rows=rows)
        job = self._waiting.pop(session, None)
        return None if job is None else Begun(job, now, rows)

    def _demand(self, pipeline: StreamPipeline, job: Job, since: float) -> Waiting:
        held = self._states.get(job.session)
        state = None if held is None else held.state
        return Waiting(job.session, since, pipeline.demand(state, job.frame, job.holder.settings))

    def _turn(self, pipeline: StreamPipeline, jobs: list[Begun]) -> None:
        if not jobs:
            return
        self._stepping_since = self._clock()
        outcomes = self._step(pipeline, jobs)
        self._stepping_since = None
        if pipeline.measured is not None and not any(isinstance(outcome, str) for outcome in outcomes):
            for work, seconds in pipeline.measured:
                self._scheduler.observe(work, seconds)
        self.load = self._scheduler.load
        self.stepped(len(jobs))
        for begun, outcome in zip(jobs, outcomes, strict=True):
            self._settle(begun, outcome)

    def _settle(self, begun: Begun, outcome: Output | str | None) -> None:
        """A job is done, or goes on in a later step."""
        job = begun.job
        if outcome is None:
            self._begun[job.session] = begun
            return
        self._begun.pop(job.session, None)
        held = self._states.get(job.session)
        wait_ms = (begun.taken_at - job.ready_at) * 1000
        output, error = (outcome, None) if isinstance(outcome, Output) else (None, outcome)
        job.done(Turned(output, error, 0 if held is None else held.state.in_flight, wait_ms, begun.taken_at))

    def _step(self, pipeline: StreamPipeline, jobs: list[Begun]) -> list[Output | str | None]:
        """One outcome per job: its Output, what went wrong, or None if it goes on in a later step. A session that fails loses its
        state, the others keep theirs."""
        try:
            return list(pipeline.advance([self._entry(pipeline, begun) for begun in jobs]))
        except Exception as error:  # a model may fail in any way; which session it was shows when each is run alone
            failure = error
        for begun in jobs:
            self._scheduler.restart(begun.job.session)
        if len(jobs) > 1:  # whole, since a part that goes well shows nothing of the one that failed
            return [outcome for begun in jobs for outcome in self._step(pipeline, [replace(begun, rows=None)])]
        session = jobs[0].job.session
        self._states.pop(session, None)
        if session not in self._failed:  # once per session: it may fail on every frame
            self._failed.add(session)
            log.error("session %s: the model failed", session, exc_info=None if isinstance(failure, RillError) else failure)
        return [str(failure) if isinstance(failure, RillError) else f"the model failed on this frame ({type(failure).__name__})"]

    def _entry(self, pipeline: StreamPipeline, begun: Begun) -> Entry:
        job = begun.job
        settings, mask, picture = job.holder.settings, job.holder.mask, job.holder.picture  # the snapshot of this step
        held = self._states.get(job.session)
        if held is not None and held.state.turn is not None:
            return Entry(held.state, job.frame, settings, begun.rows)
        if held is None:
            held = self._states[job.session] = Held(pipeline.open(settings))
        if mask is not held.mask:
            held.state.set_mask(mask)
            held.mask = mask
        if picture is not held.picture:
            held.state.set_picture(picture)
            held.picture = picture
        return Entry(held.state, _fitted(job.frame, pipeline.spec), settings, begun.rows)


def _fitted(frame: Frame | None, spec: StreamSpec) -> Frame | None:
    """The frame in the pipeline's size: it may have been unpacked for the one before."""
    if frame is None or frame.pixels is None or frame.pixels.shape[:2] == (spec.height, spec.width):
        return frame
    return replace(frame, pixels=codec.fit(frame.pixels, spec.width, spec.height))
