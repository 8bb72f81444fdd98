"""The model's owner: the only thread that runs the engine's step, and it does nothing else.

Each step takes the newest frames of the sessions that the scheduler chooses (studio/model/scheduler.py), or parts of them: a
frame that has begun stays here until its last part is done. Between two steps the pipeline may be swapped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines import Frame, Output, RillError, StreamSpec
from studio.model.jobs import Job, JobResult, LostFrames, RunningJob, SessionState, Swap
from studio.model.refiner import Refiner
from studio.model.scheduler import Scheduler, WaitingSession
from studio.pictures import codec

if TYPE_CHECKING:
    from pipelines import Entry, StreamPipeline

log = logging.getLogger("rill")


class Owner:
    """The thread with the model. `loaded` resolves to the pipeline, or to the error that loading it raised; a swap replaces the
    Future as a whole. on_step: called on the thread after each step, with the number of its sessions.
    """

    def __init__(
        self,
        factory: Callable[[], StreamPipeline],
        clock: Callable[[], float] = time.perf_counter,
        make_scheduler: Callable[[], Scheduler] = Scheduler,
    ) -> None:
        self.loaded: Future[StreamPipeline] = Future()
        self.on_step: Callable[[int], None] = lambda sessions: None
        self.load = (0, 0.0)  # sessions that have been served, and seconds that one frame of each takes, together
        self._factory = factory
        self._clock = clock
        self._wake = threading.Condition()
        self._waiting: dict[str, Job] = {}
        self._behind: dict[str, deque[Job]] = {}  # jobs that wait behind the one in `_waiting`
        self._since: dict[str, float] = {}  # arrival of the oldest unserved job; replacements inherit it
        self._begun: dict[str, RunningJob] = {}
        self._taken: dict[str, RunningJob] = {}  # those of the present step that have not been settled
        self._gone: set[str] = set()
        self._states: dict[str, SessionState] = {}
        self._failed: set[str] = set()
        self._swap: Swap | None = None
        self._refiner = Refiner()
        self._make_scheduler = make_scheduler
        self._scheduler = make_scheduler()
        self._stepping_since: float | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="rill-model", daemon=True)

    def start(self) -> None:
        """Begin to load the model."""
        self._thread.start()

    def offer(self, job: Job) -> Job | None:
        """Submit a job. Returns the job that will not be done because of it, if there is one: the session's older job that no
        step has taken yet, or this one if it has no frame. A job without a frame replaces none: the one that waits lets the
        stream batch move on as well, and its frame would be lost.
        """
        with self._wake:
            if self._closed or (job.frame is None and job.session in self._waiting):
                return job
            self._refiner.moved(job.session)
            if job.queued and job.session in self._waiting:
                self._behind.setdefault(job.session, deque()).append(job)
                return None
            self._behind.pop(job.session, None)  # of an earlier connection, which had queued them
            older = self._waiting.pop(job.session, None)
            self._waiting[job.session] = job
            self._since[job.session] = job.ready_at if older is None else self._since[job.session]
            self._gone.discard(job.session)
            self._wake.notify()
            return older

    def swap(self, pipeline: StreamPipeline, on_swapped: Callable[[LostFrames], None]) -> Future[None]:
        """Replace the pipeline after the present step: every session gets a fresh state, the old pipeline is closed.

        Frames that wait are kept, and resized. If the owner ends before, the Future is cancelled and the new pipeline closed. One
        swap at a time.
        """
        swap = Swap(pipeline, on_swapped, Future())
        if not self._accepted(swap):
            pipeline.close()
        return swap.done

    def alter(self, how: Callable[[StreamPipeline], object], on_altered: Callable[[LostFrames], None]) -> Future[None]:
        """Call `how` with the pipeline after the present step, in the owner's thread; then every session gets a fresh state, as
        after a swap. If it raises, the Future has its error and all states stay. One swap or alteration at a time."""
        swap = Swap(None, on_altered, Future(), how)
        self._accepted(swap)
        return swap.done

    def _accepted(self, swap: Swap) -> bool:
        """Whether the swap will be made; otherwise its Future is cancelled."""
        with self._wake:
            assert self._swap is None, "one swap at a time"
            if not self._closed:
                self._swap = swap
                self._wake.notify()
                return True
        swap.done.cancel()
        return False

    def forget(self, session: str) -> None:
        """The session has ended: drop its job and its state."""
        with self._wake:
            self._waiting.pop(session, None)
            self._behind.pop(session, None)
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
            self._behind.clear()
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            pipeline = self._factory()
        except Exception as error:  # a broken model file may raise anything; the server stays up and reports it
            log.error("the model cannot be loaded: %s", error, exc_info=not isinstance(error, RillError))
            self.loaded.set_exception(error)
            return
        self.loaded.set_result(pipeline)
        del pipeline  # this frame must not keep it alive after a swap
        try:
            while not self._closed:
                try:
                    self._cycle()
                except Exception as error:  # no other thread runs the model, so this one continues after any error
                    self._fail_all(error)
        finally:
            self._states.clear()
            self.loaded.result().close()
            if self._swap is not None:
                if self._swap.pipeline is not None:
                    self._swap.pipeline.close()
                self._swap.done.cancel()

    def _cycle(self) -> None:
        jobs = self._next()
        if jobs is not None:
            self._taken = {running.job.session: running for running in jobs}
            self._exchange()
            self._turn(self.loaded.result(), jobs)
            if not jobs:
                self._refine(self.loaded.result())

    def _fail_all(self, error: Exception) -> None:
        """Something outside of the model's step has failed: every job is answered with an error, and all states are new."""
        log.error("the model's thread failed and goes on: %s", error, exc_info=error)
        with self._wake:
            running = [*{**self._begun, **self._taken}.values()]
            waiting = [*self._waiting.values(), *(job for queue in self._behind.values() for job in queue)]
            for held in (self._waiting, self._behind, self._begun, self._taken, self._states, self._since, self._refiner):
                held.clear()
        self._stepping_since = None
        self._scheduler = self._make_scheduler()
        for job in [*(one.job for one in running), *waiting]:
            self._call(job.on_done, JobResult(None, _failure(error), 0, 0.0, self._clock()))

    def _call(self, function: Callable[..., None], *values: object) -> None:
        """Call what belongs to others. If it raises, the error is logged and the others are served."""
        try:
            function(*values)
        except Exception as error:
            log.error("a callback of the model's thread failed: %s", error, exc_info=error)

    def _exchange(self) -> None:
        """Put the next pipeline in place, or alter the present one, if that was requested."""
        with self._wake:
            swap, self._swap = self._swap, None
        if swap is None:
            return
        try:
            swap.alter(self.loaded.result())
        except Exception as error:  # a broken file, memory; who requested it reports it
            swap.done.set_exception(error)
            return
        begun = {name: one.job.frame.id for name, one in self._begun.items() if one.job.frame is not None}  # these begin anew
        frames = {name: tuple(id for id in held.state.frames if id != begun.get(name)) for name, held in self._states.items()}
        lost = {name: ids for name, ids in frames.items() if ids}
        self._states.clear()
        self._failed.clear()
        with self._wake:
            self._refiner.clear()
        if swap.pipeline is not None:
            self._scheduler = self._make_scheduler()  # the cost of the new pipeline's steps is unknown
            old = self.loaded.result()
            loaded: Future[StreamPipeline] = Future()
            loaded.set_result(swap.pipeline)
            self.loaded = loaded
            self._call(old.close)
        swap.done.set_result(None)
        self._call(swap.on_swapped, lost)

    def _next(self) -> list[RunningJob] | None:
        """The next step's jobs; blocks until there is something to do. Empty if there is only a swap, a session that has ended,
        or a picture to refine; None at the end."""
        with self._wake:
            while not (self._waiting or self._begun or self._closed or self._gone or self._swap):
                idle_s = self._refiner.wait_s(self._clock())
                if idle_s == 0.0:
                    return []
                self._wake.wait(idle_s)
            for session in self._gone:
                self._states.pop(session, None)
                self._begun.pop(session, None)
                self._failed.discard(session)
                self._since.pop(session, None)
                self._scheduler.forget(session)
                self._refiner.forget(session)
            self._gone.clear()
            if self._closed:
                return None
            waiting = {name: (job, self._since[name]) for name, job in self._waiting.items()}
        waiting |= {name: (begun.job, begun.job.ready_at) for name, begun in self._begun.items()}
        pipeline = self.loaded.result()
        demands = [self._demand(pipeline, job, since) for job, since in waiting.values()]
        chosen = self._scheduler.choose(demands)
        rest = [one for one in demands if chosen.get(one.session, 0) < max(1, sum(one.demand.values()))]
        soon = [session for session in self._scheduler.preview(rest) if session not in chosen and session not in self._begun]
        wanted = {one.session: sum(one.demand.values()) for one in demands}
        now = self._clock()
        with self._wake:  # a newer frame may have come meanwhile; it is taken
            jobs = [self._take(session, rows if rows < wanted[session] else None, now) for session, rows in chosen.items()]
            nearing = [self._waiting[session] for session in soon if session in self._waiting]
        for job in nearing:
            self._call(job.on_turn_near)
        return [job for job in jobs if job is not None]

    def _take(self, session: str, rows: int | None, now: float) -> RunningJob | None:
        """The session's job for the next step; None if the session has ended."""
        begun = self._begun.get(session)
        if begun is not None:
            return replace(begun, rows=rows)
        job = self._waiting.pop(session, None)
        behind = self._behind.get(session)
        if behind:
            self._waiting[session] = following = behind.popleft()
            self._since[session] = following.ready_at
        return None if job is None else RunningJob(job, now, rows)

    def _demand(self, pipeline: StreamPipeline, job: Job, since: float) -> WaitingSession:
        held = self._states.get(job.session)
        state = None if held is None else held.state
        return WaitingSession(job.session, since, pipeline.demand(state, job.frame, job.inputs.settings))

    def _turn(self, pipeline: StreamPipeline, jobs: list[RunningJob]) -> None:
        if not jobs:
            return
        self._stepping_since = self._clock()
        outcomes = self._step(pipeline, jobs)
        self._stepping_since = None
        if pipeline.measured is not None and not any(isinstance(outcome, str) for outcome in outcomes):
            for work, seconds in pipeline.measured:
                self._scheduler.observe(work, seconds)
        self.load = self._scheduler.load
        self._call(self.on_step, len(jobs))
        for begun, outcome in zip(jobs, outcomes, strict=True):
            self._settle(begun, outcome)

    def _refine(self, pipeline: StreamPipeline) -> None:
        """One step of a resting session's refinement, unless somebody has come meanwhile."""
        with self._wake:
            idle = not (self._waiting or self._swap or self._closed)
            resting = self._refiner.next(self._clock()) if idle else None
        if resting is not None:
            self._stepping_since = self._clock()
            self._refiner.step(resting, pipeline, self._states.get(resting.job.session), self._clock)
            self._stepping_since = None

    def _settle(self, begun: RunningJob, outcome: Output | str | None) -> None:
        """A job is done, or continues in a later step."""
        job = begun.job
        self._taken.pop(job.session, None)
        if outcome is None:
            self._begun[job.session] = begun
            return
        self._begun.pop(job.session, None)
        held = self._states.get(job.session)
        wait_ms = (begun.taken_at - job.ready_at) * 1000
        output, error = (outcome, None) if isinstance(outcome, Output) else (None, outcome)
        with self._wake:
            self._refiner.busy(self._clock())
            if output is not None:
                self._refiner.drawn(job, output, self._clock(), rests=job.session not in self._waiting)
        self._call(job.on_done, JobResult(output, error, 0 if held is None else held.state.in_flight, wait_ms, begun.taken_at))

    def _step(self, pipeline: StreamPipeline, jobs: list[RunningJob]) -> list[Output | str | None]:
        """One outcome per job: its Output, an error's text, or None if it continues in a later step. A session that fails loses
        its state, the others keep theirs."""
        try:
            return list(pipeline.advance([self._entry(pipeline, begun) for begun in jobs]))
        except Exception as error:  # a model may fail in any way; each session is run alone to find the one that failed
            failure = error
        for begun in jobs:
            self._scheduler.restart(begun.job.session)
        if len(jobs) > 1:  # whole frames: a part that succeeds would not show which one fails
            return [outcome for begun in jobs for outcome in self._step(pipeline, [replace(begun, rows=None)])]
        session = jobs[0].job.session
        self._states.pop(session, None)
        if session not in self._failed:  # logged once per session, since it may fail on every frame
            self._failed.add(session)
            log.error("session %s: the model failed", session, exc_info=None if isinstance(failure, RillError) else failure)
        return [_failure(failure)]

    def _entry(self, pipeline: StreamPipeline, begun: RunningJob) -> Entry:
        from pipelines import Entry  # imports torch, which the server does not wait for

        job = begun.job
        inputs = job.inputs
        settings, mask, picture, second = (
            inputs.settings,
            inputs.mask,
            inputs.picture,
            inputs.picture_b,
        )  # the snapshot of this step
        held = self._states.get(job.session)
        if held is not None and held.state.turn is not None:
            return Entry(held.state, job.frame, settings, begun.rows)
        if held is None:
            held = self._states[job.session] = SessionState(pipeline.open(settings))
        if mask is not held.mask:
            held.state.set_mask(mask)
            held.mask = mask
        if picture is not held.picture:
            held.state.set_picture(picture)
            held.picture = picture
        if second is not held.picture_b:
            held.state.set_picture(second, second=True)
            held.picture_b = second
        if inputs.names is not held.names and (len(inputs.names) or held.names is not None):
            held.state.set_names(inputs.names)
            held.names = inputs.names
        return Entry(held.state, _fitted(job.frame, pipeline.spec), settings, begun.rows)


def _failure(error: Exception) -> str:
    """What the client reads."""
    return str(error) if isinstance(error, RillError) else f"the model failed on this frame ({type(error).__name__})"


def _fitted(frame: Frame | None, spec: StreamSpec) -> Frame | None:
    """The frame in the pipeline's size: it may have been decoded for the pipeline before."""
    if frame is None or frame.pixels is None or frame.pixels.shape[:2] == (spec.height, spec.width):
        return frame
    return replace(frame, pixels=codec.fit(frame.pixels, spec.width, spec.height))
