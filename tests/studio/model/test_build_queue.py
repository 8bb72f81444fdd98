"""The queue of what is built: one place per session, turns, and nothing for who has left."""

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from studio.model import build_queue
from studio.model.build_queue import BuildQueue

LIMIT_S = 20


class Site:
    """Builds names; each waits for `go` if the gate is shut. What was built is in `built`."""

    def __init__(self) -> None:
        self.built: list[str] = []
        self.entered, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.idle = True
        self.interrupts = 0
        self.rested = threading.Event()
        self.queue: BuildQueue[str] = BuildQueue(self.build, lambda: self.idle, self.interrupt, self.rested.set)

    def build(self, name: str) -> None:
        self.entered.release()
        assert self.go.acquire(timeout=LIMIT_S)
        self.built.append(name)
        if name == "bad":
            raise RuntimeError("a compiler's whim")

    def interrupt(self) -> None:
        self.interrupts += 1

    def busy(self) -> None:
        """Until the thread builds the next one."""
        assert self.entered.acquire(timeout=LIMIT_S)

    def free(self, count: int = 1000) -> None:
        self.go.release(count)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.free()
    assert made.queue.close(LIMIT_S)


def test_a_new_request_takes_the_place_of_the_older_one(site: Site) -> None:
    old = site.queue.request("a", ["a1", "a2", "a3"])
    site.busy()
    new = site.queue.request("a", ["a4"])
    assert old.done(), "who waits for it need not wait any more"
    site.free()
    new.result(LIMIT_S)
    assert site.built == ["a1", "a4"]


def test_a_revised_request_keeps_who_waits_for_it(site: Site) -> None:
    waiting = site.queue.request("a", ["a1", "a2", "a3"])
    site.busy()
    site.queue.revise("a", ["a4", "a5"])
    site.queue.revise("b", ["b1"])  # which asked for nothing yet
    site.queue.revise("c", [])
    assert not waiting.done() and site.interrupts == 1, "a1 is not needed any more"
    site.free()
    waiting.result(LIMIT_S)
    assert site.built.count("a4") == site.built.count("a5") == 1 and {"a2", "a3"}.isdisjoint(site.built)
    site.queue.request("d", ["d1"]).result(LIMIT_S)
    assert "b1" in site.built


def test_a_request_revised_to_nothing_is_over(site: Site) -> None:
    site.queue.request("b", ["b1"])
    site.busy()
    waiting = site.queue.request("a", ["a1"])
    site.queue.revise("a", [])
    assert waiting.done()


def test_the_same_request_is_one(site: Site) -> None:
    first = site.queue.request("a", ["a1", "a2"])
    site.busy()
    assert site.queue.request("a", ["a1", "a2"]) is first
    site.free()
    first.result(LIMIT_S)
    assert site.built == ["a1", "a2"]


def test_sessions_take_turns(site: Site) -> None:
    work = [site.queue.request("a", ["a1", "a2", "a3"])]
    site.busy()
    work += [site.queue.request("b", ["b1", "b2"]), site.queue.request("c", ["c1"])]
    site.free()
    for one in work:
        one.result(LIMIT_S)
    assert site.built[0] == "a1" and set(site.built[1:4]) == {"a2", "b1", "c1"} and set(site.built[4:]) == {"a3", "b2"}


def test_who_asks_again_and_again_keeps_nobody_waiting(site: Site) -> None:
    site.queue.request("a", ["a0"])
    site.busy()
    other = site.queue.request("b", ["b1"])
    for turn in range(1, 20):
        site.queue.request("a", [f"a{turn}", "more"])
        site.free(1)
        site.busy()
        if other.done():
            break
    assert other.done() and turn <= 3


def test_who_leaves_takes_the_rest_along(site: Site) -> None:
    gone, stays = site.queue.request("a", ["a1", "a2", "a3"]), site.queue.request("b", ["b1"])
    site.busy()
    site.queue.drop("a")
    assert gone.done()
    site.free()
    stays.result(LIMIT_S)
    assert site.built == ["a1", "b1"]


def test_what_fails_ends_nobody_elses_work(site: Site) -> None:
    site.free()
    site.queue.request("a", ["bad", "a2"]).result(LIMIT_S)
    assert site.built == ["bad", "a2"]


def test_work_ahead_of_need_waits_until_nobody_is_here(site: Site) -> None:
    site.idle = False
    site.queue.ahead(["x", "y"])
    need = site.queue.request("a", ["a1", "a2"])
    site.free(2)
    need.result(LIMIT_S)
    assert site.built == ["a1", "a2"]
    site.idle = True
    site.queue.recheck()
    for _ in range(3):
        site.busy()  # a1, a2, then x
    late = site.queue.request("a", ["a3"])
    site.free()
    late.result(LIMIT_S)
    assert site.built[:4] == ["a1", "a2", "x", "a3"], "who comes meanwhile comes first"


@pytest.mark.parametrize("work, interrupts", [(["b"], 1), (["b", "a1"], 0), ([], 1)])
def test_what_is_no_longer_wanted_is_interrupted(site: Site, work: list[str], interrupts: int) -> None:
    site.queue.request("a", ["a1", "a2"])
    site.busy()
    site.queue.request("other", ["c"])
    assert site.interrupts == 0, "one session's request is no reason to end another's"
    site.queue.request("a", work)
    assert site.interrupts == interrupts
    site.queue.drop("a")
    assert site.interrupts == 1, "once for each piece of work"


def test_work_ahead_of_need_makes_way_and_is_done_again(site: Site) -> None:
    site.queue.ahead(["x", "y"])
    site.busy()
    need = site.queue.request("a", ["a1"])
    assert site.interrupts == 1
    site.free()
    need.result(LIMIT_S)
    for _ in range(3):
        site.busy()  # a1, x again, y
    assert site.built[:3] == ["x", "a1", "x"]


def test_work_ahead_of_need_that_somebody_needs_goes_on(site: Site) -> None:
    site.queue.ahead(["x"])
    site.busy()
    need = site.queue.request("a", ["x", "a1"])
    assert site.interrupts == 0
    site.free()
    need.result(LIMIT_S)


def test_who_has_nothing_to_do_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_queue, "REST_S", 0.001)
    site = Site()
    assert site.rested.wait(LIMIT_S)
    assert site.queue.close(LIMIT_S)


class Piece:
    """Work that can be referred to weakly."""


def test_what_is_done_is_held_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = threading.Event()
    monkeypatch.setattr(build_queue, "REST_S", 0.001)
    built: BuildQueue[Piece] = BuildQueue(lambda piece: waits.clear(), rest=waits.set)
    work = [Piece(), Piece()]
    held = [weakref.ref(piece) for piece in work]
    built.request("a", work).result(LIMIT_S)
    del work
    waits.clear()
    assert waits.wait(LIMIT_S), "the thread waits again"
    gc.collect()
    assert [ref() for ref in held] == [None, None], "a pipeline that has gone would stay in memory"
    assert built.close(LIMIT_S)


def test_the_end_does_not_wait_for_ever() -> None:
    site = Site()
    waiting = site.queue.request("a", ["a1", "a2"])
    site.busy()
    assert not site.queue.close(0.01), "the present one goes on"
    assert waiting.done() and site.queue.request("a", ["a3"]).done(), "nothing more is taken"
    site.free()
    assert site.queue.close(LIMIT_S) and site.built == ["a1"]
