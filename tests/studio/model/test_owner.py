"""The model's thread: one step for all who wait, the culprit alone is hurt, newest wins."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines import Frame, Settings, StreamSpec
from studio.model.owner import Job, JobResult, Owner
from studio.model.scheduler import Costs, Demand, Policy, WaitingSession
from tests.studio.fake import FakePipeline

GREY = np.full((128, 128, 3), 100, np.uint8)


class Desk:
    """An owner of a fake model, and what came back from it."""

    def __init__(self) -> None:
        self.pipeline = FakePipeline(StreamSpec(width=128, height=128))
        self.owner = Owner(lambda: self.pipeline)  # type: ignore[arg-type,return-value]
        self.back: queue.Queue[tuple[str, JobResult]] = queue.Queue()

    def job(self, session: str, frame_id: int | None, prompt: str = "plain", mask: Any = None) -> Job:
        """frame_id None: a job without a frame."""
        inputs: Any = SimpleNamespace(settings=Settings(prompt=prompt), mask=mask, picture=None)
        frame = None if frame_id is None else Frame(frame_id, 0.0, GREY)
        return Job(session, inputs, frame, 0.0, lambda result: self.back.put((session, result)))

    def offer(self, session: str, frame_id: int | None, prompt: str = "plain", mask: Any = None) -> Job | None:
        return self.owner.offer(self.job(session, frame_id, prompt, mask))

    def hear(self, count: int) -> dict[str, JobResult]:
        return dict(self.back.get(timeout=10) for _ in range(count))

    def block(self) -> None:
        """The model is busy with somebody until `pipeline.hold` is set."""
        self.pipeline.hold.clear()
        self.pipeline.entered.clear()
        self.offer("blocker", 1)
        assert self.pipeline.entered.wait(10)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    made.owner.start()
    made.owner.loaded.result(10)
    yield made
    made.pipeline.hold.set()
    made.owner.close()
    assert made.pipeline.closed


def test_those_who_wait_share_steps_that_grow_by_doubling(desk: Desk) -> None:
    desk.pipeline.step_s = 0.003  # whatever the number of sessions
    for _ in range(2):
        desk.block()
        for session in "abcd":
            desk.offer(session, 1)
        desk.pipeline.hold.set()
        assert set(desk.hear(5)) == {"blocker", "a", "b", "c", "d"}
    assert desk.pipeline.batches == [1, 2, 2, 1, 4]


def test_who_has_a_fresher_frame_when_the_step_begins_enters_with_that(desk: Desk) -> None:
    demand, offered = desk.pipeline.demand, []

    def slow(state: Any, frame: Any, settings: Settings) -> Any:
        if not offered:
            offered.append(desk.offer("a", 2))
        return demand(state, frame, settings)

    desk.pipeline.demand = slow  # type: ignore[method-assign]
    desk.offer("a", 1)
    output = desk.hear(1)["a"].output
    assert output is not None and output.frame_id == 2 and offered[0].frame.id == 1


def test_who_has_the_next_turn_is_told_when_a_step_begins_and_a_fresher_frame_keeps_the_place(desk: Desk) -> None:
    near: list[str] = []

    def offer(session: str, frame_id: int, ready_at: float) -> None:
        inputs: Any = SimpleNamespace(settings=Settings(), mask=None, picture=None)

        def told() -> None:
            near.append(f"{session}{frame_id} near")

        def done(result: JobResult) -> None:
            near.append(f"{session}{frame_id} done")
            desk.back.put((session, result))

        desk.owner.offer(Job(session, inputs, Frame(frame_id, 0.0, GREY), ready_at, done, told))

    desk.block()
    offer("a", 1, 1.0)
    offer("b", 1, 2.0)
    offer("c", 1, 3.0)
    offer("a", 2, 4.0)  # in the place of the first
    desk.pipeline.step_s = 0.003
    desk.owner._scheduler.policy = Policy(widest=1)
    desk.pipeline.hold.set()
    desk.hear(4)
    assert near == ["b1 near", "a2 done", "c1 near", "b1 done", "c1 done"]


def test_a_step_that_failed_teaches_nothing(desk: Desk) -> None:
    desk.offer("a", 1, prompt="boom")
    desk.hear(1)
    assert not desk.owner._scheduler.costs.allows({("full", 0): 1})
    desk.offer("a", 2)
    desk.hear(1)
    desk.offer("a", 3)  # taken once the one before has been noted
    desk.hear(1)
    assert desk.owner._scheduler.costs.allows({("full", 0): 1})


def raising(*values: Any) -> Any:
    raise LookupError("no such thing")


def once(owner: Any, name: str) -> None:
    """The next call of this function raises."""
    real = getattr(owner, name)

    def failing(*values: Any) -> Any:
        setattr(owner, name, real)
        raising()

    setattr(owner, name, failing)


@pytest.mark.parametrize("where", ["demand", "choose", "preview", "observe", "on_step", "close"])
def test_whatever_fails_outside_the_step_the_thread_goes_on_and_everybody_is_answered(desk: Desk, where: str) -> None:
    """What the thread calls: the pipeline, its scheduler, what the hub has hung in."""
    desk.block()
    for session in "ab":
        desk.offer(session, 1)
    swapped = None
    if where == "close":
        swapped = desk.owner.swap(replaced := FakePipeline(StreamSpec(width=192, height=128)), raising)  # type: ignore[arg-type]
        desk.pipeline, old = replaced, desk.pipeline
        once(old, "close")
        old.hold.set()
    else:
        once({"demand": desk.pipeline, "on_step": desk.owner}.get(where, desk.owner._scheduler), where)
        desk.pipeline.hold.set()
    first = desk.hear(3)
    assert set(first) == {"blocker", "a", "b"}, "each once, with a picture or an error"
    assert all((result.output is None) != (result.error is None) for result in first.values())
    assert swapped is None or swapped.done()
    for session in "ab":
        desk.offer(session, 2)
    assert all(result.output is not None and result.output.frame_id == 2 for result in desk.hear(2).values())
    assert desk.back.empty()


def test_a_callback_that_fails_harms_nobody_else(desk: Desk) -> None:
    desk.block()
    desk.owner.offer(replace(desk.job("a", 1), on_done=raising, on_turn_near=raising))
    desk.offer("b", 1)
    desk.pipeline.hold.set()
    assert set(desk.hear(2)) == {"blocker", "b"}
    desk.offer("a", 2)
    assert desk.hear(1)["a"].output is not None


def test_newest_wins_while_the_model_is_busy(desk: Desk) -> None:
    desk.block()
    assert desk.offer("a", 1) is None
    older = desk.offer("a", 2)
    assert older is not None and older.frame is not None and older.frame.id == 1
    desk.pipeline.hold.set()
    output = desk.hear(2)["a"].output
    assert output is not None and output.frame_id == 2


def test_a_job_without_a_frame_takes_nobodys_place(desk: Desk) -> None:
    desk.block()
    frame, empty, another = desk.job("a", 1), desk.job("a", None), desk.job("b", None)
    assert desk.owner.offer(frame) is None and desk.owner.offer(empty) is empty
    assert desk.owner.offer(another) is None and desk.owner.offer(empty_too := desk.job("b", None)) is empty_too
    assert desk.owner.offer(desk.job("b", 2)) is another, "a frame takes its place"
    desk.pipeline.hold.set()
    outputs = {session: result.output for session, result in desk.hear(3).items()}
    assert outputs["a"] is not None and outputs["a"].frame_id == 1
    assert outputs["b"] is not None and outputs["b"].frame_id == 2 and desk.back.empty()


def test_only_the_culprit_is_hurt_and_begins_afresh(desk: Desk) -> None:
    desk.offer("bad", 1)
    desk.hear(1)
    desk.block()
    desk.offer("good", 1)
    desk.offer("bad", 2, prompt="boom")
    desk.pipeline.hold.set()
    back = desk.hear(3)
    assert back["good"].output is not None and back["good"].error is None
    assert back["bad"].output is None and "RuntimeError" in str(back["bad"].error)
    opened = len(desk.pipeline.opened)
    desk.offer("bad", 3)
    assert desk.hear(1)["bad"].output is not None and len(desk.pipeline.opened) == opened + 1


def test_a_mask_is_set_once_and_again_in_a_fresh_state(desk: Desk) -> None:
    mask = np.zeros((4, 4), np.uint8)
    for frame_id, given in ((1, None), (2, mask), (3, mask)):
        desk.offer("a", frame_id, mask=given)
        desk.hear(1)
    assert desk.pipeline.opened[-1].masks == [mask]
    desk.offer("a", 4, prompt="boom", mask=mask)
    desk.hear(1)
    desk.offer("a", 5, mask=mask)
    desk.hear(1)
    assert desk.pipeline.opened[-1].steps == 1 and desk.pipeline.opened[-1].masks == [mask]
    desk.offer("a", 6)
    desk.hear(1)
    assert desk.pipeline.opened[-1].masks[-1] is None


def test_a_forgotten_session_leaves_nothing(desk: Desk) -> None:
    desk.offer("a", 1)
    desk.hear(1)
    desk.owner.forget("a")
    desk.offer("b", 1)
    desk.hear(1)
    assert set(desk.owner._states) == {"b"}


class PerRow(Costs):
    """A second per row, whatever steps take."""

    def of(self, demand: Demand) -> float:
        return float(sum(demand.values()))

    def allows(self, demand: Demand) -> bool:
        return True


@pytest.fixture
def heavy(desk: Desk) -> Desk:
    """Frames of eight rows, and somebody light who has just been here: they are done one row at a time."""
    desk.owner._scheduler.costs = PerRow()
    desk.owner._scheduler.choose([WaitingSession("light", 0.0, {("full", 0): 1})])
    desk.owner._scheduler.observe({("full", 0): 1}, 0.001)
    return desk


class Gate:
    """Steps of a fake model that begin one by one."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._advance = desk, desk.pipeline.advance
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.entered: list[list[tuple[str, int | None]]] = []
        self.error = False
        desk.pipeline.advance = self  # type: ignore[method-assign,assignment]

    def __call__(self, entries: Any) -> Any:
        self.entered.append([(entry.settings.prompt, entry.rows) for entry in entries])
        self.begun.release()
        assert self.go.acquire(timeout=20)
        if self.error and len(entries) > 1:
            for entry in entries:
                entry.state.turn, entry.state.done = None, 0
            raise RuntimeError("out of memory")
        return self._advance(entries)

    def step(self, count: int = 1) -> None:
        """So many steps to their ends, and the next one has begun."""
        for _ in range(count):
            self.go.release()
            assert self.begun.acquire(timeout=10)

    def open(self) -> None:
        self.go.release(1000)


@pytest.fixture
def gate(heavy: Desk) -> Iterator[Gate]:
    made = Gate(heavy)
    yield made
    made.open()


def test_a_heavy_frame_is_done_in_parts_and_others_enter_between_them(heavy: Desk, gate: Gate) -> None:
    heavy.offer("heavy", 1, prompt="heavy")
    assert gate.begun.acquire(timeout=10)
    gate.step(2)
    heavy.offer("heavy", 2, prompt="heavy")  # waits for the next turn: the first has begun
    heavy.offer("light", 1, prompt="light")
    gate.step()
    assert gate.entered == [[("heavy", 1)]] * 3 + [[("light", None)]]
    gate.open()
    back = [heavy.back.get(timeout=10) for _ in range(3)]
    assert [(session, result.output.frame_id) for session, result in back if result.output is not None] == [
        ("light", 1),
        ("heavy", 1),
        ("heavy", 2),
    ]


def test_the_wait_of_a_frame_ends_with_its_first_part(heavy: Desk, gate: Gate) -> None:
    heavy.offer("heavy", 1, prompt="heavy")
    assert gate.begun.acquire(timeout=10)
    now = heavy.owner._clock()
    gate.open()
    assert heavy.hear(1)["heavy"].taken_at <= now


def test_a_frame_whose_parts_are_under_way_begins_anew_on_another_pipeline(heavy: Desk, gate: Gate) -> None:
    heavy.offer("heavy", 1, prompt="heavy")
    assert gate.begun.acquire(timeout=10)
    gate.step(3)
    told: list[Any] = []
    other = FakePipeline(StreamSpec(width=192, height=128))
    done = heavy.owner.swap(other, told.append)  # type: ignore[arg-type]
    gate.open()
    done.result(10)
    output = heavy.hear(1)["heavy"].output
    assert output is not None and output.frame_id == 1 and output.pixels is not None
    assert output.pixels.numpy().shape == (128, 192, 3) and told == [{}], "it is not lost"
    heavy.pipeline = other


def test_a_step_that_fails_is_repeated_whole_so_that_every_frame_is_settled(heavy: Desk, gate: Gate) -> None:
    heavy.offer("heavy", 1, prompt="heavy")
    assert gate.begun.acquire(timeout=10)
    gate.step(2)
    gate.error = True
    heavy.owner._scheduler._fill = lambda order: order  # type: ignore[method-assign]
    heavy.offer("light", 1, prompt="light")
    gate.step()
    assert len(gate.entered[-1]) == 2
    gate.open()
    back = heavy.hear(2)
    assert back["heavy"].output is not None and back["light"].output is not None
    assert gate.entered[-2:] == [[("heavy", None)], [("light", None)]] or gate.entered[-2:] == [
        [("light", None)],
        [("heavy", None)],
    ]


def test_a_session_that_ends_between_two_parts_leaves_nothing(heavy: Desk, gate: Gate) -> None:
    heavy.offer("heavy", 1, prompt="heavy")
    assert gate.begun.acquire(timeout=10)
    gate.step(2)
    heavy.owner.forget("heavy")
    gate.open()
    heavy.offer("other", 1)
    assert list(heavy.hear(1)) == ["other"]
    heavy.offer("other", 2)
    heavy.hear(1)
    assert not heavy.owner._begun and set(heavy.owner._states) == {"other"}


def test_queued_jobs_are_all_done_in_their_order(desk: Desk) -> None:
    desk.block()
    for frame_id in range(1, 6):
        assert desk.owner.offer(replace(desk.job("a", frame_id), queued=True)) is None
    still = desk.job("a", None)
    assert desk.owner.offer(still) is still, "what waits lets the stream batch move on"
    desk.pipeline.hold.set()
    done = [desk.back.get(timeout=10) for _ in range(6)]
    assert [result.output.frame_id for session, result in done if session == "a" and result.output] == [1, 2, 3, 4, 5]


def test_a_job_of_a_later_connection_replaces_all_that_were_queued(desk: Desk) -> None:
    desk.block()
    for frame_id in range(1, 4):
        desk.owner.offer(replace(desk.job("a", frame_id), queued=True))
    desk.offer("a", 9)
    desk.pipeline.hold.set()
    assert {name: result.output.frame_id for name, result in desk.hear(2).items() if result.output}["a"] == 9
    desk.offer("b", 1)
    assert set(desk.hear(1)) == {"b"}, "ids must rise: none of the older frames may follow"


def test_a_load_that_fails_is_told() -> None:
    def broken() -> Any:
        raise ValueError("no such file")

    owner = Owner(broken)
    owner.start()
    assert isinstance(owner.loaded.exception(10), ValueError)
    owner.close()


def test_jobs_after_the_end_are_given_back() -> None:
    desk = Desk()
    desk.owner.start()
    desk.owner.close()
    job = desk.offer("a", 1)
    assert job is not None and desk.back.empty()
