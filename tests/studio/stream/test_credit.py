"""What clients that send whenever they have credit cost: simulated with the real bookkeeping and the real scheduler, then over
real sockets. No frame that only others' turns made old may buy the next one.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from pipelines import Settings
from studio.client.pace import Pace
from studio.model.scheduler import Policy, Scheduler, WaitingSession
from studio.stream.session import Session
from studio.wire.limits import Limits
from studio.wire.protocol import Answer, AnswerTimings, FrameMessage
from tests.studio.harness import Peer, Running, coloured, joined, serving

STEP_S = 0.057  # one row of pocket at 512x512 on two cores; two rows take twice that
ENCODE_S, TRAVEL_S, UNPACK_S = 0.0015, 0.003, 0.003
GREY = coloured(100, 100, 100)
FULL = ("full", 0)


@dataclass
class Client:
    """Encodes and sends as soon as it has credit, or as soon as its pace lets it."""

    session: Session
    pace: Pace | None = None
    rows: int = 1  # of each of its frames
    left: int = 0  # of the one that has begun
    settled: int = 0
    sent: int = 0
    encoding: bool = False
    unpacking: bool = False
    captured: dict[int, float] = field(default_factory=dict)
    ages: list[float] = field(default_factory=list)  # of the frames that were taken, when they were
    made: int = 0
    gone: bool = False


class World:
    """Clients on one device, in simulated seconds."""

    def __init__(
        self, clients: int, travel_s: float = TRAVEL_S, credit: int = 2, paced: bool = False, rows: Sequence[int] = ()
    ) -> None:
        sessions = [Session(f"s{n}", Limits(credit=credit), Settings()) for n in range(clients)]
        each = rows or [1] * clients
        self.clients = [Client(session, Pace() if paced else None, rows) for session, rows in zip(sessions, each, strict=True)]
        self.now = self.idle_s = 0.0
        self._travel_s = travel_s
        self._scheduler = Scheduler()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._waiting: dict[str, tuple[Client, int, float]] = {}
        self._begun: dict[str, tuple[Client, int, float]] = {}
        self._busy = False
        self._free_since = 0.0

    def run(self, seconds: float) -> World:
        for client in self.clients:
            self._send(client)
        while self.now < seconds:
            self.now, _, event = heapq.heappop(self._events)
            event()
        return self

    @property
    def made(self) -> int:
        return sum(client.made for client in self.clients)

    @property
    def sent_per_picture(self) -> float:
        return sum(client.sent for client in self.clients) / self.made

    def _after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), event))

    def _send(self, client: Client) -> None:
        if client.gone:
            return
        unsettled, credit = client.sent - client.settled, client.session.limits.credit
        delay = 0.0 if unsettled < credit else math.inf
        if client.pace is not None:
            delay = client.pace.delay(unsettled, credit, self.now)
        if 0.0 < delay < math.inf:
            self._after(delay, lambda: self._send(client))
        elif not client.encoding and not delay:
            if client.pace is not None:
                client.pace.sent(unsettled, self.now)
            client.encoding = True
            client.sent += 1
            frame_id = client.sent
            client.captured[frame_id] = self.now
            self._after(ENCODE_S, lambda: self._encoded(client))
            self._after(ENCODE_S + self._travel_s, lambda: self._receive(client, frame_id))

    def _encoded(self, client: Client) -> None:
        client.encoding = False
        self._send(client)

    def _receive(self, client: Client, frame_id: int) -> None:
        client.session.receive(FrameMessage(frame_id, client.captured[frame_id], "none", memoryview(b"")), self.now)
        self._unpack(client)

    def _unpack(self, client: Client) -> None:
        if not client.unpacking and (waiting := client.session.take(self.now)) is not None:
            client.unpacking = True
            frame_id = waiting.frame.id
            self._after(UNPACK_S, lambda: self._offer(client, frame_id))

    def _offer(self, client: Client, frame_id: int) -> None:
        client.unpacking = False
        older = self._waiting.get(client.session.name)
        self._waiting[client.session.name] = client, frame_id, self.now if older is None else older[2]
        if older is not None:
            client.session.supersede(older[1])
        self._unpack(client)
        self._post(client)
        self._step()

    def _step(self) -> None:
        candidates = self._waiting | self._begun
        if self._busy or not candidates:
            return
        demands = [WaitingSession(name, at, {FULL: client.left or client.rows}) for name, (client, _, at) in candidates.items()]
        chosen = self._scheduler.choose(demands)
        for name, rows in chosen.items():
            if name not in self._begun:
                self._begin(name)
            self._begun[name][0].left -= rows
        rest = [demand for demand in demands if demand.session not in chosen]
        for name in self._scheduler.preview(rest):
            if name not in self._begun:
                client = self._waiting[name][0]
                client.session.release_superseded()
                self._post(client)
        self._busy = True
        self.idle_s += self.now - self._free_since
        rows = sum(chosen.values())
        self._after(STEP_S * rows, lambda: self._stepped(list(chosen), rows))

    def _begin(self, name: str) -> None:
        self._begun[name] = client, frame_id, _ = self._waiting.pop(name)
        client.left = client.rows
        client.ages.append(self.now - client.captured[frame_id])

    def _stepped(self, chosen: list[str], rows: int) -> None:
        self._busy = False
        self._free_since = self.now
        self._scheduler.observe({FULL: rows}, STEP_S * rows)
        done = [self._begun.pop(name) for name in chosen if not self._begun[name][0].left]
        self._step()  # packing takes a moment: the next step begins first
        for client, frame_id, _ in done:
            client.made += 1
            served_ms = 1000 * (self.now - client.captured[frame_id] - ENCODE_S - self._travel_s)
            timings = AnswerTimings(denoise=1000 * STEP_S * client.rows, total=served_ms)
            client.session.answer(frame_id, Answer(frame_id, client.captured[frame_id], 0, 0, "generated", timings=timings))
            self._post(client)

    def _post(self, client: Client) -> None:
        while (answer := client.session.next_answer()) is not None:
            self._after(self._travel_s, lambda answer=answer: self._answered(client, answer))  # type: ignore[misc]

    def _answered(self, client: Client, answer: Answer) -> None:
        client.settled = max(client.settled, answer.settled)
        if client.pace is not None:
            client.pace.answered(answer, client.captured[answer.settled], self.now)
        self._send(client)


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@pytest.mark.parametrize("paced", [True, False])
@pytest.mark.parametrize("travel_s", [0.003, 0.02])
@pytest.mark.parametrize("clients", [1, 2, 4, 8, 16])
def test_clients_send_few_pictures_that_are_not_shown_and_the_newest_are_shown(
    clients: int, travel_s: float, paced: bool
) -> None:
    world = World(clients, travel_s, paced=paced).run(20.0)
    assert world.made >= 0.98 * 20.0 / STEP_S and world.idle_s < 0.2, "the device is never idle for long"
    assert min(client.made for client in world.clients) >= 0.9 * world.made / clients
    most = {1: 1.02, 2: 2.02}.get(clients, 2.3 if paced else 3.15)
    assert world.sent_per_picture <= most
    for client in world.clients:
        assert middle(client.ages) <= 1.05 * STEP_S, "older than one step when it enters"


@pytest.mark.parametrize(("credit", "paced"), [(1, False), (2, False), (2, True)])
@pytest.mark.parametrize("heavy", [1, 2])
def test_a_light_client_beside_heavy_ones_keeps_its_share(credit: int, paced: bool, heavy: int) -> None:
    """One row beside eight, whether a client keeps its pace, has two frames under way, or one as the page has."""
    alone = World(1, credit=credit, paced=paced).run(40.0).made
    world = World(1 + heavy, credit=credit, paced=paced, rows=[1, *[8] * heavy]).run(40.0)
    light, *others = world.clients
    assert light.made >= 0.9 / (1 + heavy) * alone
    assert min(client.made for client in others) >= 0.8 / (1 + heavy) * 40.0 / (8 * STEP_S) and world.idle_s < 0.2


@pytest.mark.parametrize("credit", [1, 3, 4])
def test_other_credits_neither_deadlock_nor_flood(credit: int) -> None:
    world = World(4, credit=credit).run(20.0)
    assert world.made >= 0.98 * 20.0 / STEP_S and world.sent_per_picture <= 2 * credit


def test_a_client_whose_neighbours_leave_has_the_device_for_itself_at_once() -> None:
    world = World(4, paced=True).run(10.0)
    for client in world.clients[1:]:
        client.gone = True
    stayed, made = world.clients[0], world.clients[0].made
    world.run(20.0)
    assert stayed.made - made >= 0.97 * 10.0 / STEP_S
    assert middle(stayed.ages[-100:]) <= STEP_S


def made_at(frame_id: int, captured_at: float, step_ms: float = 50.0, served_ms: float = 60.0) -> Answer:
    timings = AnswerTimings(encode=5.0, denoise=step_ms - 10.0, decode=5.0, total=served_ms)
    return Answer(frame_id, captured_at, 0, 0, "generated", timings=timings)


def test_the_second_picture_leaves_when_the_turn_is_near_and_the_first_at_once() -> None:
    pace = Pace()
    for turn in range(4):  # a turn every 200 ms, a step takes 50 ms, 20 ms on the way
        pace.sent(0, 0.2 * turn)
        pace.sent(1, 0.2 * turn + 0.1)
        shown = turn - 3  # four steps as a stream batch: the picture is of an older frame than the one that was taken in
        pace.answered(made_at(shown, 0.2 * shown + 0.12), 0.2 * turn + 0.12, 0.2 * turn + 0.2)
    assert pace.delay(0, 2, 0.8) == 0.0 and pace.delay(2, 2, 0.8) == math.inf
    assert pace.delay(1, 2, 0.8) == pytest.approx(0.2 - 0.075 - 0.02)
    assert pace.delay(1, 2, 0.9) == pytest.approx(0.005) and pace.delay(1, 2, 0.91) == 0.0
    pace.answered(Answer(9, 0.8, 0, 0, "dropped", "superseded"), 0.8, 0.85)
    assert pace.delay(1, 2, 0.9) == pytest.approx(0.005), "only pictures mark turns"


def test_a_source_that_sends_seldom_is_not_held_back() -> None:
    pace = Pace()
    for turn in range(5):  # one picture a second, answered after 80 ms
        pace.sent(0, float(turn))
        pace.answered(made_at(turn, float(turn)), float(turn), turn + 0.08)
    assert pace.delay(1, 2, 4.09) == 0.0


@pytest.fixture
def running() -> Iterator[Running]:
    with serving(Limits(max_sessions=4)) as server:
        yield server


def session_of(running: Running, peer: Peer) -> Session:
    return running.hub._streams[peer.welcome["session"]].session


async def send_on(peer: Peer, count: int, patience_s: float) -> None:
    """Send whenever there is credit, until so many answers have come. Raises TimeoutError if none comes for so long."""
    while len(peer.answers) < count:
        settled = peer.answers[-1].settled if peer.answers else 0
        while peer.next_id - 1 - settled < 2:
            await peer.send_frame(GREY)
            await asyncio.sleep(0.05 if patience_s < 1 else 0)
        await asyncio.wait_for(peer.next_answer(), patience_s)


async def test_a_superseded_frame_buys_no_other_while_the_model_is_with_somebody_else(running: Running) -> None:
    pipeline = running.pipeline
    async with joined(running) as other, joined(running) as peer:
        pipeline.hold.clear()
        pipeline.entered.clear()
        await other.send_frame(GREY)
        assert await asyncio.to_thread(pipeline.entered.wait, 10)
        with pytest.raises(TimeoutError):
            await send_on(peer, 100, 0.5)
        session = session_of(running, peer)
        assert session.totals["received"] == 2 and session.in_flight == (1, 2) and not peer.answers
        pipeline.hold.set()
        await send_on(peer, 40, 10)
        first = peer.answers[:2]
        assert [(answer.frame_id, answer.verdict, answer.settled) for answer in first] == [(1, "dropped", 1), (2, "generated", 2)]
        assert first[0].reason == "superseded"


async def test_when_its_turn_is_near_a_client_sends_a_fresh_picture(running: Running) -> None:
    """Three sessions, one in a step: while the model is with the second, the third's turn is near."""
    pipeline, entered, go = running.pipeline, threading.Semaphore(0), threading.Semaphore(0)
    running.hub.fleet.owners[0]._scheduler.policy = Policy(widest=1)
    step = pipeline.advance

    def slowly(entries: Any) -> Any:
        entered.release()
        assert go.acquire(timeout=20)
        return step(entries)

    pipeline.advance = slowly  # type: ignore[method-assign]
    async with joined(running) as first, joined(running) as second, joined(running) as third:
        try:
            await first.send_frame(GREY)
            assert await asyncio.to_thread(entered.acquire, timeout=10)
            for peer in (second, third):
                await offered_twice(running, peer)
            go.release()
            assert await asyncio.to_thread(entered.acquire, timeout=10)
            answer = await third.next_answer()
            assert (answer.frame_id, answer.reason, answer.settled) == (1, "superseded", 1)
            assert session_of(running, second).in_flight == (1, 2), "its turn was never announced"
            fresh = await third.send_frame(GREY)
            await superseded(running, third, 2)
            go.release()
            go.release()
            while (answer := await third.next_answer()).verdict == "dropped":
                pass
            assert (answer.frame_id, answer.verdict, answer.settled) == (fresh, "generated", fresh)
        finally:
            go.release(20)


async def offered_twice(running: Running, peer: Peer) -> None:
    """Two frames for the model, the second in the place of the first."""
    await peer.send_frame(GREY)
    while peer.welcome["session"] not in running.hub.fleet.owners[0]._waiting:
        await asyncio.sleep(0.01)
    await peer.send_frame(GREY)
    await superseded(running, peer, 1)


async def superseded(running: Running, peer: Peer, frame_id: int) -> None:
    async with asyncio.timeout(10):
        while session_of(running, peer).awaits(frame_id):
            await asyncio.sleep(0.01)
