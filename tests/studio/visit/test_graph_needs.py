"""Which graphs are kept and built: those of the sessions present, and ahead of need while there are none."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from pipelines import Settings, StreamSpec
from studio.model.fleet import Fleet
from studio.visit.graph_needs import GraphNeeds
from studio.visit.seats import Seats
from studio.wire.limits import Limits
from tests.studio.fake import FakePipeline

LIMIT_S = 20


class Graphs:
    """Keys are (steps, sessions); building waits for `go`."""

    bytes = 7

    def __init__(self) -> None:
        self.built: list[Any] = []
        self.needed: set[Any] = set()
        self.entered, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def ready(self, key: Any) -> bool:
        return key in self.built

    def need(self, keys: Any) -> None:
        self.needed = set(keys)

    def build(self, key: Any, ahead: bool = False) -> None:
        self.entered.release()
        assert self.go.acquire(timeout=LIMIT_S)
        self.built.append((*key, "ahead") if ahead else key)


class Place:
    def __init__(self) -> None:
        self.pipeline: Any = FakePipeline(StreamSpec())
        self.graphs = self.pipeline.graphs = Graphs()
        self.pipeline.graphs_for = lambda settings, sessions=1, pictured=False: ((settings.steps, sessions),)
        self.fleet = Fleet(lambda spec: self.pipeline, [StreamSpec()], lambda: 0.0)
        self.fleet.owners[0].loaded = loaded = Future()
        loaded.set_result(self.pipeline)
        self.seats = Seats(Limits(max_sessions=3))
        self.needs = GraphNeeds(self.fleet, self.seats)

    def come(self, steps: int) -> Any:
        seat, _ = self.seats.open(Settings().patched({"steps": steps}))
        self.fleet.assign(seat.session.name)
        self.needs.sessions_changed()
        return seat


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.graphs.go.release(100)
    assert made.needs.close(LIMIT_S)


def test_what_those_present_need_is_kept(place: Place) -> None:
    one, other = place.come(1), place.come(4)
    assert place.graphs.needed == {(1, 2), (4, 2)}
    place.seats.leave(other, 0.0)
    place.needs.drop(other.session.name)
    assert place.graphs.needed == {(1, 1)}
    place.seats.end(one)
    place.needs.drop(one.session.name)
    assert place.graphs.needed == set()


def test_a_session_that_comes_or_leaves_changes_what_is_built_for_the_others(place: Place) -> None:
    first = place.come(1)
    assert place.graphs.entered.acquire(timeout=LIMIT_S)
    second, third = place.come(1), place.come(1)
    waiting = place.needs.prepare(Settings(), first.session.name)
    place.graphs.go.release(100)
    waiting.result(LIMIT_S)
    assert (1, 3) in place.graphs.built and (1, 2) not in place.graphs.built, "no session needs two rows any more"
    place.seats.end(third)
    place.needs.drop(third.session.name)
    place.needs.prepare(Settings(), second.session.name).result(LIMIT_S)
    assert (1, 2) in place.graphs.built


def test_settings_that_are_about_to_come_are_needed(place: Place) -> None:
    seat = place.come(1)
    work = place.needs.prepare(Settings().patched({"steps": 3}), seat.session.name)
    assert place.graphs.needed == {(3, 1)}
    place.graphs.go.release()
    work.result(LIMIT_S)
    assert place.graphs.built == [(3, 1)]


def test_nothing_is_built_for_a_session_that_has_left(place: Place) -> None:
    one, other = place.come(1), place.come(2)
    building = place.needs.prepare(one.session.settings, one.session.name)
    assert place.graphs.entered.acquire(timeout=LIMIT_S)
    waiting = place.needs.prepare(other.session.settings, other.session.name)
    place.seats.leave(other, 0.0)
    place.needs.drop(other.session.name)
    assert waiting.done()
    place.graphs.go.release(10)
    building.result(LIMIT_S)
    assert place.needs.close(LIMIT_S) and not any(steps == 2 for steps, _ in place.graphs.built)


def test_graphs_for_several_sessions_are_built_while_no_session_is_here(place: Place) -> None:
    place.needs.ahead(Settings())
    for _ in range(2):
        assert place.graphs.entered.acquire(timeout=LIMIT_S)
        place.graphs.go.release()
    assert place.graphs.entered.acquire(timeout=LIMIT_S)
    assert place.graphs.built == [(1, 1, "ahead"), (1, 2, "ahead")]


def test_nothing_is_built_ahead_while_somebody_is_here(place: Place) -> None:
    seat = place.come(2)
    place.needs.ahead(Settings())
    work = place.needs.prepare(seat.session.settings, seat.session.name)
    place.graphs.go.release(10)
    work.result(LIMIT_S)
    assert place.graphs.built == [(2, 1)]


class SlowAside:
    """Another process that builds until `go`."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def build(self, spec: Any, key: Any) -> str:
        self.entered.release()
        assert self.go.acquire(timeout=LIMIT_S)
        return "built"

    def interrupt(self) -> None:
        pass

    stop = close = interrupt


def test_what_is_on_disk_does_not_wait_for_what_is_built(place: Place) -> None:
    aside: Any = SlowAside()
    place.graphs.portable = lambda key, ahead=False: key[0] > 1  # type: ignore[attr-defined]
    place.graphs.go.release(100)
    assert place.needs.close(LIMIT_S)
    needs = place.needs = GraphNeeds(place.fleet, place.seats, aside)
    one, other = place.come(4), place.come(1)
    slow = needs.prepare(one.session.settings, one.session.name)
    assert aside.entered.acquire(timeout=LIMIT_S)
    needs.prepare(other.session.settings, other.session.name).result(LIMIT_S)
    assert (1, 2) in place.graphs.built and not slow.done()
    aside.go.release(100)
    slow.result(LIMIT_S)
    assert (4, 2) in place.graphs.built


def test_the_bytes_of_all_pipelines_are_added(place: Place) -> None:
    assert place.needs.bytes == 7
