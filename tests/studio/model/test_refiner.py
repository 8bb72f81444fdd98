"""Pictures at rest are refined in idle time: after a rest, within the budget, behind everybody's frames, until one comes."""

from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines import Frame, HostPicture, Output, Settings, StreamSpec
from studio.model.jobs import Job, JobResult, SessionState
from studio.model.refiner import LEAST_REST_S, MOST_REST_S, SHOW_S, Refiner
from tests.studio.fake import FakePipeline
from tests.studio.model.owner_harness import GREY, OwnerHarness

REFINE = Settings().patched({"refine.enabled": True})


class Desk:
    """A refiner beside a fake model, and a clock that a step moves on by `step_s`."""

    def __init__(self, step_s: float = 0.02) -> None:
        self.now, self.step_s = 100.0, step_s
        self.refiner = Refiner()
        self.pipeline = FakePipeline(StreamSpec(width=128, height=128))
        self.states: dict[str, SessionState] = {}
        self.shown: list[tuple[str, int]] = []

    def draw(self, session: str, settings: Settings = REFINE, rests: bool = True, **about: Any) -> Job:
        """A frame of this session was drawn just now."""
        inputs: Any = SimpleNamespace(settings=settings, mask=None, picture=None, picture_b=None, names=())
        state: Any = SimpleNamespace(shown=(1, GREY))
        self.states[session] = SessionState(state)
        job = Job(session, inputs, Frame(1, 0.0, GREY), self.now, lambda result: None, on_refined=self._seen(session))
        output = Output(1, settings.version, HostPicture(GREY), "generated", **about)
        self.refiner.busy(self.now)
        self.refiner.drawn(job, output, self.now, rests)
        return job

    def _seen(self, session: str) -> Any:
        return lambda output: self.shown.append((session, int(output.pixels.numpy()[0, 0, 0])))

    def pass_time(self, seconds: float) -> float:
        """Refine whatever is due for so long. Returns the seconds that were spent on it."""
        end, spent = self.now + seconds, 0.0
        while (wait := self.refiner.wait_s(self.now)) is not None and self.now + wait <= end:
            self.now += wait
            resting = self.refiner.next(self.now)
            assert resting is not None, "a step is due, but there is none"
            before, count = self.now, len(self.pipeline.refined)
            self.refiner.step(resting, self.pipeline, self.states.get(resting.job.session), self._tick())  # type: ignore[arg-type]
            self.now = max(self.now, before + self.step_s * (len(self.pipeline.refined) - count))
            spent += self.now - before
        self.now = max(self.now, end)
        return spent

    def _tick(self) -> Any:
        """A clock that reads the beginning first, and then the end."""
        times = iter([self.now] + [self.now + self.step_s] * 3)
        return lambda: next(times)


def test_a_rest_ends_in_the_best_picture_and_then_costs_nothing() -> None:
    desk = Desk()
    desk.draw("a")
    assert desk.pass_time(LEAST_REST_S - 0.01) == 0.0, "it may still move"
    assert desk.pass_time(0.5) == pytest.approx(3 * desk.step_s)
    assert desk.shown[-1] == ("a", 130), "three steps of 10 are missing"
    assert desk.pass_time(60.0) == 0.0 and desk.refiner.wait_s(desk.now) is None


def test_pictures_on_the_way_are_shown_at_intervals_and_the_last_one_always() -> None:
    quick, slow = Desk(0.001), Desk(2 * SHOW_S)
    for desk in (quick, slow):
        desk.draw("a", REFINE.patched({"refine.share": 1.0}))
        desk.pass_time(5.0)
    assert [value for _, value in quick.shown] == [130]
    assert [value for _, value in slow.shown] == [120, 130]


def test_a_slow_source_does_not_rest_between_its_frames() -> None:
    desk = Desk()
    for _ in range(8):
        desk.refiner.moved("a")
        desk.draw("a")
        assert desk.pass_time(0.4) == 0.0 or _ < 2, "refined between two frames of a moving scene"
    assert desk.pass_time(0.8) > 0.0


def test_even_the_slowest_source_rests_at_last() -> None:
    desk = Desk()
    for _ in range(4):
        desk.refiner.moved("a")
        desk.draw("a")
        desk.now += 1.9
    desk.refiner.moved("a")
    desk.draw("a")
    assert desk.pass_time(MOST_REST_S - 0.01) == 0.0 and desk.pass_time(0.5) > 0.0


def test_a_frame_that_comes_ends_the_refinement() -> None:
    desk = Desk()
    desk.draw("a")
    desk.pass_time(LEAST_REST_S + desk.step_s / 2)
    assert len(desk.pipeline.refined) == 1
    desk.refiner.moved("a")
    assert desk.pass_time(60.0) == 0.0 and desk.refiner.next(desk.now) is None


def test_a_device_that_others_use_is_not_idle() -> None:
    """Another session's frames leave gaps shorter than a step of the refinement, so no step begins in one."""
    desk = Desk(step_s=0.04)
    desk.draw("a")
    desk.pass_time(LEAST_REST_S + 0.03)  # the first step, which shows what a step takes
    assert len(desk.pipeline.refined) == 1
    for _ in range(100):
        desk.refiner.busy(desk.now)
        assert desk.pass_time(0.03) == 0.0
    assert desk.pass_time(1.0) > 0.0


def test_no_more_than_the_share_of_time_is_spent() -> None:
    desk, spent, began = Desk(step_s=0.05), 0.0, 100.0
    settings = REFINE.patched({"refine.share": 0.05})
    for _ in range(100):
        desk.refiner.moved("a")
        desk.draw("a", settings)
        spent += desk.pass_time(2.5)  # would cost 6% of the time
    assert spent <= 0.05 * (desk.now - began + 1.0) + desk.step_s
    assert spent > 0.04 * (desk.now - began)


ENDS: dict[str, Any] = {
    "settings": lambda inputs: setattr(inputs, "settings", REFINE.patched({"prompt": "ink"})),
    "mask": lambda inputs: setattr(inputs, "mask", np.zeros((8, 8), np.uint8)),
    "picture": lambda inputs: setattr(inputs, "picture", GREY),
    "second picture": lambda inputs: setattr(inputs, "picture_b", GREY),
    "names": lambda inputs: setattr(inputs, "names", ("red waves",)),
}


@pytest.mark.parametrize("what", ENDS)
def test_a_change_of_what_it_was_drawn_with_ends_the_refinement(what: str) -> None:
    desk = Desk()
    ENDS[what](desk.draw("a").inputs)
    assert desk.pass_time(10.0) == 0.0 and not desk.shown


def test_nothing_is_refined_while_the_picture_changes_or_more_is_to_come() -> None:
    desk = Desk()
    desk.draw("a", changing=True)
    desk.draw("b", rests=False)
    desk.draw("c", REFINE.patched({"steps": 4}))
    assert desk.pass_time(10.0) == 0.0 and not desk.pipeline.refined


def test_one_that_fails_ends_and_the_other_sessions_are_refined() -> None:
    desk = Desk()
    desk.draw("a")
    desk.pipeline.refine_fails = True
    desk.pass_time(1.0)
    assert len(desk.pipeline.refined) == 1 and not desk.shown, "it is tried once"
    desk.pipeline.refine_fails = False
    desk.draw("b")
    desk.pass_time(1.0)
    assert desk.shown == [("b", 130)]


def test_a_session_that_has_ended_is_forgotten() -> None:
    desk = Desk()
    desk.draw("a")
    desk.refiner.forget("a")
    assert desk.pass_time(10.0) == 0.0 and not desk.refiner._paces


# In the model's thread.


def offer(harness: OwnerHarness, session: str, refined: queue.Queue[Output], blocks: bool = False) -> None:
    """blocks: the first step of the refinement waits for `hold`."""
    inputs: Any = SimpleNamespace(settings=REFINE, mask=None, picture=None, picture_b=None, names=())

    def done(result: JobResult) -> None:
        if blocks:
            harness.pipeline.hold.clear()
            harness.pipeline.entered.clear()
        harness.back.put((session, result))

    harness.owner.offer(Job(session, inputs, Frame(1, 0.0, GREY), 0.0, done, on_refined=refined.put))


def test_the_models_thread_refines_a_resting_session(harness: OwnerHarness) -> None:
    refined: queue.Queue[Output] = queue.Queue()
    offer(harness, "a", refined)
    harness.results(1)
    pictures = [refined.get(timeout=10)]
    while pictures[-1].pixels is not None and pictures[-1].pixels.numpy()[0, 0, 0] != 130:
        pictures.append(refined.get(timeout=10))
    assert {picture.frame_id for picture in pictures} == {1}


def test_a_frame_goes_before_the_next_step_of_a_refinement(harness: OwnerHarness) -> None:
    offer(harness, "a", queue.Queue(), blocks=True)
    harness.results(1)
    assert harness.pipeline.entered.wait(10)
    harness.offer("b", 1)
    harness.offer("a", 2)
    harness.pipeline.hold.set()
    assert set(harness.results(2)) == {"a", "b"}
    assert len(harness.pipeline.refined) == 1, "the second step came before a frame that waited"


def test_a_swap_ends_refinements(harness: OwnerHarness) -> None:
    offer(harness, "a", queue.Queue())
    harness.results(1)
    other = FakePipeline(StreamSpec(width=128, height=128))
    harness.owner.swap(other, lambda lost: None).result(10)  # type: ignore[arg-type]
    assert harness.owner._refiner.wait_s(1e9) is None and not other.refined
