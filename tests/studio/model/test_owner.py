"""The model's thread: one step for all waiting sessions, a failure stays with its session, newest wins."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines import Frame, ModelError, Settings, StreamSpec
from studio.model.jobs import Job, JobResult
from studio.model.owner import Owner
from studio.model.scheduler import Policy
from tests.studio.fake import FakePipeline
from tests.studio.model.owner_harness import GREY, OwnerHarness


def test_waiting_sessions_share_steps_that_grow_by_doubling(harness: OwnerHarness) -> None:
    harness.pipeline.step_s = 0.003  # whatever the number of sessions
    for _ in range(2):
        harness.block()
        for session in "abcd":
            harness.offer(session, 1)
        harness.pipeline.hold.set()
        assert set(harness.results(5)) == {"blocker", "a", "b", "c", "d"}
    assert harness.pipeline.batches == [1, 2, 2, 1, 4]


def test_a_session_enters_a_step_with_its_newest_frame(harness: OwnerHarness) -> None:
    demand, offered = harness.pipeline.demand, []

    def slow(state: Any, frame: Any, settings: Settings) -> Any:
        if not offered:
            offered.append(harness.offer("a", 2))
        return demand(state, frame, settings)

    harness.pipeline.demand = slow  # type: ignore[method-assign]
    harness.offer("a", 1)
    output = harness.results(1)["a"].output
    assert output is not None and output.frame_id == 2 and offered[0].frame.id == 1


def test_the_next_session_is_notified_at_a_steps_start_and_a_newer_frame_keeps_its_place(harness: OwnerHarness) -> None:
    near: list[str] = []

    def offer(session: str, frame_id: int, ready_at: float) -> None:
        inputs: Any = SimpleNamespace(settings=Settings(), mask=None, picture=None, picture_b=None, names=())

        def turn_near() -> None:
            near.append(f"{session}{frame_id} near")

        def done(result: JobResult) -> None:
            near.append(f"{session}{frame_id} done")
            harness.back.put((session, result))

        harness.owner.offer(Job(session, inputs, Frame(frame_id, 0.0, GREY), ready_at, done, turn_near))

    harness.block()
    offer("a", 1, 1.0)
    offer("b", 1, 2.0)
    offer("c", 1, 3.0)
    offer("a", 2, 4.0)  # in the place of the first
    harness.pipeline.step_s = 0.003
    harness.owner._scheduler.policy = Policy(widest=1)
    harness.pipeline.hold.set()
    harness.results(4)
    assert near == ["b1 near", "a2 done", "c1 near", "b1 done", "c1 done"]


def test_a_failed_step_is_no_measurement(harness: OwnerHarness) -> None:
    harness.offer("a", 1, prompt="boom")
    harness.results(1)
    assert not harness.owner._scheduler.costs.allows({("full", 0): 1})
    harness.offer("a", 2)
    harness.results(1)
    harness.offer("a", 3)  # taken once the one before has been noted
    harness.results(1)
    assert harness.owner._scheduler.costs.allows({("full", 0): 1})


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
def test_whatever_fails_outside_the_step_the_thread_goes_on_and_every_session_is_answered(
    harness: OwnerHarness, where: str
) -> None:
    """What the thread calls: the pipeline, its scheduler, what the hub has hung in."""
    harness.block()
    for session in "ab":
        harness.offer(session, 1)
    swapped = None
    if where == "close":
        swapped = harness.owner.swap(replaced := FakePipeline(StreamSpec(width=192, height=128)), raising)  # type: ignore[arg-type]
        harness.pipeline, old = replaced, harness.pipeline
        once(old, "close")
        old.hold.set()
    else:
        once({"demand": harness.pipeline, "on_step": harness.owner}.get(where, harness.owner._scheduler), where)
        harness.pipeline.hold.set()
    first = harness.results(3)
    assert set(first) == {"blocker", "a", "b"}, "each once, with a picture or an error"
    assert all((result.output is None) != (result.error is None) for result in first.values())
    assert swapped is None or swapped.done()
    for session in "ab":
        harness.offer(session, 2)
    assert all(result.output is not None and result.output.frame_id == 2 for result in harness.results(2).values())
    assert harness.back.empty()


def test_a_failing_callback_affects_no_other_session(harness: OwnerHarness) -> None:
    harness.block()
    harness.owner.offer(replace(harness.job("a", 1), on_done=raising, on_turn_near=raising))
    harness.offer("b", 1)
    harness.pipeline.hold.set()
    assert set(harness.results(2)) == {"blocker", "b"}
    harness.offer("a", 2)
    assert harness.results(1)["a"].output is not None


def test_newest_wins_while_the_model_is_busy(harness: OwnerHarness) -> None:
    harness.block()
    assert harness.offer("a", 1) is None
    older = harness.offer("a", 2)
    assert older is not None and older.frame is not None and older.frame.id == 1
    harness.pipeline.hold.set()
    output = harness.results(2)["a"].output
    assert output is not None and output.frame_id == 2


def test_a_job_without_a_frame_replaces_no_other_job(harness: OwnerHarness) -> None:
    harness.block()
    frame, empty, another = harness.job("a", 1), harness.job("a", None), harness.job("b", None)
    assert harness.owner.offer(frame) is None and harness.owner.offer(empty) is empty
    assert harness.owner.offer(another) is None and harness.owner.offer(empty_too := harness.job("b", None)) is empty_too
    assert harness.owner.offer(harness.job("b", 2)) is another, "a frame takes its place"
    harness.pipeline.hold.set()
    outputs = {session: result.output for session, result in harness.results(3).items()}
    assert outputs["a"] is not None and outputs["a"].frame_id == 1
    assert outputs["b"] is not None and outputs["b"].frame_id == 2 and harness.back.empty()


def test_only_the_culprit_is_hurt_and_begins_afresh(harness: OwnerHarness) -> None:
    harness.offer("bad", 1)
    harness.results(1)
    harness.block()
    harness.offer("good", 1)
    harness.offer("bad", 2, prompt="boom")
    harness.pipeline.hold.set()
    back = harness.results(3)
    assert back["good"].output is not None and back["good"].error is None
    assert back["bad"].output is None and "RuntimeError" in str(back["bad"].error)
    opened = len(harness.pipeline.opened)
    harness.offer("bad", 3)
    assert harness.results(1)["bad"].output is not None and len(harness.pipeline.opened) == opened + 1


def test_a_mask_is_set_once_and_again_in_a_fresh_state(harness: OwnerHarness) -> None:
    mask = np.zeros((4, 4), np.uint8)
    for frame_id, given in ((1, None), (2, mask), (3, mask)):
        harness.offer("a", frame_id, mask=given)
        harness.results(1)
    assert harness.pipeline.opened[-1].masks == [mask]
    harness.offer("a", 4, prompt="boom", mask=mask)
    harness.results(1)
    harness.offer("a", 5, mask=mask)
    harness.results(1)
    assert harness.pipeline.opened[-1].steps == 1 and harness.pipeline.opened[-1].masks == [mask]
    harness.offer("a", 6)
    harness.results(1)
    assert harness.pipeline.opened[-1].masks[-1] is None


def test_a_forgotten_session_leaves_nothing(harness: OwnerHarness) -> None:
    harness.offer("a", 1)
    harness.results(1)
    harness.owner.forget("a")
    harness.offer("b", 1)
    harness.results(1)
    assert set(harness.owner._states) == {"b"}


def test_queued_jobs_are_all_done_in_their_order(harness: OwnerHarness) -> None:
    harness.block()
    for frame_id in range(1, 6):
        assert harness.owner.offer(replace(harness.job("a", frame_id), queued=True)) is None
    still = harness.job("a", None)
    assert harness.owner.offer(still) is still, "what waits lets the stream batch move on"
    harness.pipeline.hold.set()
    done = [harness.back.get(timeout=10) for _ in range(6)]
    assert [result.output.frame_id for session, result in done if session == "a" and result.output] == [1, 2, 3, 4, 5]


def test_a_job_of_a_later_connection_replaces_all_that_were_queued(harness: OwnerHarness) -> None:
    harness.block()
    for frame_id in range(1, 4):
        harness.owner.offer(replace(harness.job("a", frame_id), queued=True))
    harness.offer("a", 9)
    harness.pipeline.hold.set()
    assert {name: result.output.frame_id for name, result in harness.results(2).items() if result.output}["a"] == 9
    harness.offer("b", 1)
    assert set(harness.results(1)) == {"b"}, "ids must rise: none of the older frames may follow"


def test_a_failed_load_is_reported() -> None:
    def broken() -> Any:
        raise ValueError("no such file")

    owner = Owner(broken)
    owner.start()
    assert isinstance(owner.loaded.exception(10), ValueError)
    owner.close()


def test_jobs_after_the_end_are_given_back() -> None:
    harness = OwnerHarness()
    harness.owner.start()
    harness.owner.close()
    job = harness.offer("a", 1)
    assert job is not None and harness.back.empty()


def test_states_are_new_after_a_change_and_stay_after_a_failure(harness: OwnerHarness) -> None:
    harness.offer("a", 1)
    harness.results(1)
    (state,) = harness.pipeline.opened
    lost: list[Any] = []

    def failing(pipeline: object) -> None:
        raise ModelError("broken")

    with pytest.raises(ModelError, match="broken"):
        harness.owner.alter(failing, lost.append).result(10)
    harness.offer("a", 2)
    harness.results(1)
    assert harness.pipeline.opened == [state] and state.steps == 2 and lost == []
    given: list[object] = []
    harness.owner.alter(given.append, lost.append).result(10)
    harness.offer("a", 3)
    harness.results(1)
    assert given == [harness.pipeline] and len(harness.pipeline.opened) == 2 and lost == [{}]
    assert not harness.pipeline.closed and harness.owner.loaded.result() is harness.pipeline
