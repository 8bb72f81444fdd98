"""Whatever happens in whatever order, credit returns: a stream with its session and its model's owner, without threads. The event
loop, the codec pool, the model and the socket move one piece on as a random walk decides.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from typing import Any

import pytest

from pipelines import Settings, StreamSpec
from studio.model.jobs import RunningJob
from studio.model.owner import Owner
from studio.model.scheduler import Policy, Scheduler, WaitingSession
from studio.stream.dispatcher import Dispatcher
from studio.stream.mailbox import Mailbox
from studio.stream.metrics import Metrics
from studio.stream.services import StreamServices
from studio.stream.session import Session
from studio.stream.stream import Stream
from studio.wire.limits import Limits
from studio.wire.protocol import VERDICTS, Answer, pack_frame
from tests.studio.costs import PerRow
from tests.studio.fake import FakePipeline
from tests.studio.stream.manual import FakeGate, ManualLoop, ManualPool

SPEC = StreamSpec(width=128, height=128)
ENDS = ("skipped", "warming", "dropped", "failed")


def beside_a_light_neighbour() -> Scheduler:
    """Heavy frames are done a row at a time."""
    scheduler = Scheduler(Policy(present_s=math.inf))
    scheduler.costs = PerRow()
    scheduler.choose([WaitingSession("neighbour", 0.0, {("full", 0): 1})])
    return scheduler


class World:
    """One client that keeps to its credit, mostly, and everything between its frames and their answers."""

    def __init__(self, seed: int, every: bool = False) -> None:
        self.dice = random.Random(seed)
        self.now, self.credit = 100.0, self.dice.choice([1, 2, 2, 2, 3, 4])
        of_model, of_pool, of_loop = (0.02, 0.1, 0.5), (0.3, 1.0), (0.3, 1.0)
        self.speeds = [self.dice.choice(speeds) for speeds in (of_model, of_pool, of_loop)]
        self.pool, self.loop, self.gate = ManualPool(), ManualLoop(), FakeGate()
        self.owner = Owner(lambda: FakePipeline(SPEC), lambda: self.now, beside_a_light_neighbour)  # type: ignore[arg-type,return-value]
        self.owner.loaded.set_result(FakePipeline(SPEC))  # type: ignore[arg-type]
        self.session = Session("s", Limits(credit=self.credit), Settings())
        self.session.every = every
        services = StreamServices(self.owner, self.pool, self.session.limits, Metrics(), lambda: self.now, lambda: SPEC)  # type: ignore[arg-type]
        dispatcher = Dispatcher(self.loop, self.pool, "s")  # type: ignore[arg-type]
        self.stream = Stream(self.session, services, dispatcher, self.gate)
        self.jobs: list[RunningJob] = []
        self.sent = self.settled = self.shown = 0
        self.ends: dict[int, Counter[str]] = defaultdict(Counter)
        put = self.session._put

        def watched(answer: Answer) -> None:
            self.ends[answer.frame_id]["spec" if answer.reason == "spec" else answer.verdict] += 1
            put(answer)

        self.session._put = watched  # type: ignore[method-assign]
        self.mailbox: Mailbox = self.stream.attach()

    def walk(self, moves: int) -> None:
        """So many random moves; what holds at any time is looked at after each."""
        weights = {self.send: 20, self.advance: 40, self.receive: 10, self.patch: 1, self.pause: 0.1, self.go_on: 1,
                   self.block: 0.6, self.nearly: 0.5, self.swap: 0.3, self.wait: 0.5, self.leave: 0.1, self.resume: 0.6,
                   self.settle_down: 0.1}  # fmt: skip
        for move in self.dice.choices(list(weights), list(weights.values()), k=moves):
            move()
            self.every_frame_meets_one_fate()
        self.settle_down()

    # What the client does.

    def send(self) -> None:
        if not self.stream.attached or (self.sent - self.settled >= self.credit and self.dice.random() < 0.9):
            return
        content = self.dice.choices(["good", "late", "broken", "breaks us"], [40, 1, 1, 1])[0]
        self.gate.still, self.gate.broken = self.dice.random() < 0.6, content == "breaks us"
        self.sent += 1
        form, picture = ("png", b"no picture") if content == "broken" else ("none", b"")
        captured_at = self.now - (5.0 if content == "late" else 0.0)
        self.stream.inbound.receive_frame(pack_frame(self.sent, captured_at, form, picture), self.now)

    def patch(self) -> None:
        prompt = self.dice.choices(["plain", "heavy", "boom"], [6, 3, 1])[0]
        self.session.settings = self.session.settings.patched({"steps": self.dice.randint(1, 4), "prompt": prompt})

    def pause(self) -> None:
        self.session.pause(True)

    def go_on(self) -> None:
        self.session.pause(False)

    def block(self) -> None:
        """The socket takes nothing, or takes something again."""
        self.session.send_blocked = self.stream.attached and not self.session.send_blocked

    def receive(self, most: int = 3) -> None:
        for _ in range(most if self.stream.attached and not self.session.send_blocked else 0):
            message = self.mailbox.get_nowait()
            if isinstance(message, Answer):
                self.check_answer(message)

    def check_answer(self, answer: Answer) -> None:
        assert answer.settled >= self.settled, "settled never falls"
        assert answer.verdict == "dropped" or answer.frame_id <= answer.settled
        if answer.verdict in ("generated", "cached"):
            assert answer.frame_id > self.shown, "pictures never go back in time"
            self.shown = answer.frame_id
        elif answer.verdict != "dropped":
            assert answer.frame_id > self.settled, "an answer comes before its frame is called settled"
        self.settled = answer.settled

    def leave(self) -> None:
        if self.stream.attached:
            self.stream.detach()
            self.session.detach()
            assert self.session.in_flight == () and not self.session.outbox

    def resume(self) -> None:
        if not self.stream.attached:
            self.mailbox = self.stream.attach()
            self.settled = self.sent = self.session.last_id

    # What the server does.

    def advance(self) -> None:
        """One piece of work somewhere: several wait, and any may be the next."""
        step = self.step if self.jobs else self.take
        waits = (
            bool(self.jobs or self.owner._waiting or self.owner._begun or self.owner._swap),
            bool(self.pool.tasks),
            bool(self.loop.calls),
        )
        could = [(work, speed) for work, speed, one in zip((step, self.work, self.call), self.speeds, waits, strict=True) if one]
        if could:
            self.dice.choices([work for work, _ in could], [speed for _, speed in could])[0]()

    def work(self) -> None:
        self.pool.run(self.dice.randrange(len(self.pool.tasks)))

    def call(self) -> None:
        self.loop.calls.popleft()()

    def take(self) -> None:
        self.jobs = self.owner._next() or []
        if not self.jobs:
            self.owner._exchange()

    def step(self) -> None:
        self.owner._exchange()
        jobs, self.jobs = self.jobs, []
        self.owner._turn(self.owner.loaded.result(), jobs)

    def nearly(self) -> None:
        for job in self.owner._waiting.values():
            job.on_turn_near()

    def swap(self) -> None:
        swapped: Any = lambda lost: self.stream.callbacks.pipeline_swapped(lost.get("s", ()), lambda: "the spec has changed")  # noqa: E731
        if self.owner._swap is None:
            self.owner.swap(FakePipeline(SPEC), swapped)  # type: ignore[arg-type]

    def wait(self) -> None:
        self.now += self.dice.choice([0.1, 0.1, 3.0])

    def settle_down(self) -> None:
        """Everything that is under way is done: nothing is in flight, and the client has all of its credit."""
        owner = self.owner
        while self.pool.tasks or self.loop.calls or self.jobs or owner._waiting or owner._begun or owner._swap:
            self.advance()
        assert self.session.in_flight == () and self.session.inbox is None and not self.stream.inbound.reading
        if self.stream.attached:
            self.session.send_blocked = False
            self.receive(100)
            assert self.settled == self.sent == self.session.last_id

    # What holds at any time.

    def every_frame_meets_one_fate(self) -> None:
        session = self.session
        fates = sum(session.totals[verdict] for verdict in VERDICTS)
        waiting = sum(answer.verdict != "dropped" for answer in session.outbox)
        assert session.totals["received"] == fates + len(session.in_flight) + waiting
        assert session.totals["dropped"] == session.drops.total()
        assert len(session.in_flight) <= self.credit
        assert not session.in_flight or any(map(session.awaits, session.in_flight)), "nothing will give that credit back"
        for ends in self.ends.values():
            assert sum(ends[end] for end in ENDS) <= 1 and ends["generated"] + ends["spec"] <= 1, "settled once"


@pytest.mark.parametrize("seed", range(20))
def test_with_delivery_every_no_frame_is_replaced(seed: int) -> None:
    world = World(seed, every=True)
    world.walk(1000)
    assert world.session.drops.keys() <= {"credit", "paused", "unsent"} and world.session.totals["generated"] > 0


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_in_whatever_order_credit_returns_and_every_frame_is_settled_once(seed: int) -> None:
    World(seed).walk(1000)
