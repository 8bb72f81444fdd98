"""A pool, an event loop, a gate and a fleet that a test controls step by step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from pipelines import Output, Pixels, Settings, StageTimings, StreamSpec, gate
from studio.model.jobs import Job, JobResult
from studio.stream.dispatcher import Dispatcher
from studio.stream.metrics import Metrics
from studio.stream.services import StreamServices
from studio.stream.session import Session
from studio.stream.session_gate import SessionGate
from studio.stream.stream import Stream
from studio.wire.limits import Limits
from studio.wire.protocol import Answer, ProtocolError, pack_frame

SPEC = StreamSpec(width=128, height=128)


class ManualPool:
    """Runs submitted work when the test calls `run`."""

    def __init__(self) -> None:
        self.tasks: list[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = []

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.tasks.append((future, work, arguments))
        return future

    def run(self, index: int) -> None:
        future, work, arguments = self.tasks.pop(index % len(self.tasks))
        try:
            future.set_result(work(*arguments))
        except (RuntimeError, ProtocolError) as error:
            future.set_exception(error)


class ManualLoop:
    """Makes the requested calls in order, when the test calls `run`."""

    def __init__(self) -> None:
        self.calls: deque[Callable[[], None]] = deque()

    def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
        self.calls.append(call)


class FakeGate(SessionGate):
    """Skips while the scene is still, except for the first frame and the first after `reset`."""

    def __init__(self) -> None:
        super().__init__()
        self.still = self.broken = self._known = False

    def decide(self, pixels: Pixels | None, settings: Settings, changing: bool = False) -> gate.Answer:
        if self.broken:
            self.broken = False
            raise RuntimeError("the gate broke")
        skip, self._known, self._reset = self.still and self._known and not self._reset, True, False
        return gate.Answer(skip)


class FakeFleet:
    """Stores the offered jobs; returns `unused` for each."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.unused: Job | None = None

    def pipeline(self, session: str) -> Any:
        """A pipeline that takes pictures as they are, not as styles."""
        return SimpleNamespace(pictures=SimpleNamespace(style=lambda picture: None))

    def offer(self, job: Job) -> Job | None:
        self.jobs.append(job)
        return self.unused


@dataclass
class Bench:
    """A stream whose threads stand still; `run` moves everything on. `sent` holds what the mailbox gave out."""

    credit: int = 2
    now: float = 100.0
    pool: ManualPool = field(default_factory=ManualPool)
    loop: ManualLoop = field(default_factory=ManualLoop)
    gate: FakeGate = field(default_factory=FakeGate)
    fleet: FakeFleet = field(default_factory=FakeFleet)
    metrics: Metrics = field(default_factory=Metrics)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.session = Session("s", Limits(credit=self.credit, texts_waiting=4), Settings())
        fleet: Any = self.fleet
        pool: Any = self.pool
        services = StreamServices(fleet, pool, self.session.limits, self.metrics, lambda: self.now, lambda: SPEC)
        loop: Any = self.loop
        self.stream = Stream(self.session, services, Dispatcher(loop, pool, "s"), self.gate)
        self.mailbox = self.stream.attach(self.errors.append)

    def send(self, frame_id: int, form: str = "none", picture: bytes = b"") -> None:
        """Receive a frame, by default without a picture."""
        self.stream.inbound.receive_frame(pack_frame(frame_id, self.now, form, picture), self.now)

    def run(self) -> None:
        """Run all work of the pool and the loop."""
        while self.pool.tasks or self.loop.calls:
            if self.pool.tasks:
                self.pool.run(0)
            while self.loop.calls:
                self.loop.calls.popleft()()

    def done(self, index: int = -1, pixels: Any = None, in_flight: int = 0, **output: Any) -> None:
        """Report a job as done by the model."""
        job = self.fleet.jobs[index]
        frame_id = -1 if job.frame is None else job.frame.id
        values = {"frame_id": frame_id, "settings_version": 1, "pixels": pixels, "verdict": "generated"} | output
        job.on_done(JobResult(Output(timings=StageTimings(denoise=5.0), **values), None, in_flight, 2.0, self.now))

    def sent(self) -> list[Any]:
        """The messages that wait to be sent, in order."""
        found = []
        while (message := self.mailbox.get_nowait()) is not None:
            found.append(message)
        return found

    def answers(self) -> list[tuple[int, str, int]]:
        """(frame id, verdict, settled) of the answers that wait to be sent; messages are skipped."""
        return [(one.frame_id, one.verdict, one.settled) for one in self.sent() if isinstance(one, Answer)]
