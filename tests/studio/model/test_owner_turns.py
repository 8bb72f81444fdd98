"""The model's thread when frames are computed in parts: other sessions enter between two parts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines import StreamSpec
from studio.model.scheduler import WaitingSession
from tests.studio.costs import PerRow
from tests.studio.fake import FakePipeline
from tests.studio.model.owner_harness import OwnerHarness


@pytest.fixture
def heavy(harness: OwnerHarness) -> OwnerHarness:
    """Frames of eight rows, and a light session that has just had a step: they are computed one row at a time."""
    harness.owner._scheduler.costs = PerRow()
    harness.owner._scheduler.choose([WaitingSession("light", 0.0, {("full", 0): 1})])
    harness.owner._scheduler.observe({("full", 0): 1}, 0.001)
    return harness


class Gate:
    """Steps of a fake model that begin one by one."""

    def __init__(self, harness: OwnerHarness) -> None:
        self._desk, self._advance = harness, harness.pipeline.advance
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.entered: list[list[tuple[str, int | None]]] = []
        self.error = False
        harness.pipeline.advance = self  # type: ignore[method-assign,assignment]

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
def gate(heavy: OwnerHarness) -> Iterator[Gate]:
    made = Gate(heavy)
    yield made
    made.open()


def test_a_heavy_frame_is_done_in_parts_and_others_enter_between_them(heavy: OwnerHarness, gate: Gate) -> None:
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


def test_the_wait_of_a_frame_ends_with_its_first_part(heavy: OwnerHarness, gate: Gate) -> None:
    heavy.offer("heavy", 1, prompt="heavy")
    assert gate.begun.acquire(timeout=10)
    now = heavy.owner._clock()
    gate.open()
    assert heavy.results(1)["heavy"].taken_at <= now


def test_a_frame_whose_parts_are_under_way_begins_anew_on_another_pipeline(heavy: OwnerHarness, gate: Gate) -> None:
    heavy.offer("heavy", 1, prompt="heavy")
    assert gate.begun.acquire(timeout=10)
    gate.step(3)
    adjusted: list[Any] = []
    other = FakePipeline(StreamSpec(width=192, height=128))
    done = heavy.owner.swap(other, adjusted.append)  # type: ignore[arg-type]
    gate.open()
    done.result(10)
    output = heavy.results(1)["heavy"].output
    assert output is not None and output.frame_id == 1 and output.pixels is not None
    assert output.pixels.numpy().shape == (128, 192, 3) and adjusted == [{}], "it is not lost"
    heavy.pipeline = other


def test_a_step_that_fails_is_repeated_whole_so_that_every_frame_is_settled(heavy: OwnerHarness, gate: Gate) -> None:
    heavy.offer("heavy", 1, prompt="heavy")
    assert gate.begun.acquire(timeout=10)
    gate.step(2)
    gate.error = True
    heavy.owner._scheduler._fill = lambda order: order  # type: ignore[method-assign]
    heavy.offer("light", 1, prompt="light")
    gate.step()
    assert len(gate.entered[-1]) == 2
    gate.open()
    back = heavy.results(2)
    assert back["heavy"].output is not None and back["light"].output is not None
    assert gate.entered[-2:] == [[("heavy", None)], [("light", None)]] or gate.entered[-2:] == [
        [("light", None)],
        [("heavy", None)],
    ]


def test_a_session_that_ends_between_two_parts_leaves_nothing(heavy: OwnerHarness, gate: Gate) -> None:
    heavy.offer("heavy", 1, prompt="heavy")
    assert gate.begun.acquire(timeout=10)
    gate.step(2)
    heavy.owner.forget("heavy")
    gate.open()
    heavy.offer("other", 1)
    assert list(heavy.results(1)) == ["other"]
    heavy.offer("other", 2)
    heavy.results(1)
    assert not heavy.owner._begun and set(heavy.owner._states) == {"other"}
