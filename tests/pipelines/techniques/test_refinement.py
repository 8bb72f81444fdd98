"""The decisions of a refinement: which settings it has, whether there is anything to gain, and the account of its time."""

import pytest

from pipelines.techniques.refinement import SAVED_S, Budget, improves, refined
from pipelines.values.settings import Settings

ON = Settings().patched({"refine.enabled": True})


def test_linear_guidance_becomes_what_it_approximates() -> None:
    assert refined(ON.patched({"guidance_mode": "linear"}), 4).guidance_mode == "full"
    assert refined(ON.patched({"guidance_mode": "self"}), 4).guidance_mode == "self"


def test_the_refined_picture_has_more_steps_and_saves_no_work() -> None:
    fast = ON.patched({"cache.enabled": True, "gate.enabled": True, "probe.enabled": True, "guidance_mode": "adaptive"})
    better = refined(fast, 8)
    assert (better.steps, better.guidance_mode, better.version) == (4, "full", fast.version)
    assert not (better.cache.enabled or better.gate.enabled or better.probe.enabled or better.stream_batch.enabled)
    assert better.prompt == fast.prompt and better.strength == fast.strength


@pytest.mark.parametrize(
    ("live", "wanted", "limit", "steps"), [(1, 4, 8, 4), (1, 4, 2, 2), (6, 4, 8, 6), (1, 8, 8, 8), (1, 4, 1, 1)]
)
def test_the_stream_bounds_the_steps_and_live_steps_are_never_lowered(live: int, wanted: int, limit: int, steps: int) -> None:
    assert refined(ON.patched({"steps": live, "refine.steps": wanted}), limit).steps == steps


def test_it_pays_with_more_steps_or_after_reuse_only() -> None:
    assert improves(ON, 4, reused=False)
    assert not improves(ON, 1, reused=False) and improves(ON, 1, reused=True)
    assert not improves(ON.patched({"steps": 4}), 4, reused=False)
    assert not improves(Settings(), 4, reused=True)


def test_steps_take_no_more_than_their_share_of_the_time() -> None:
    share, step, now, took = 0.25, 0.3, 0.0, 0.0
    budget = Budget.full(share, now)
    while now < 60.0:
        budget = budget.later(now)
        if budget.due_at <= now:
            now, took = now + step, took + step
            budget = budget.spent(step)
        else:
            now = budget.due_at
    assert took <= share * (now + SAVED_S) + step and took > share * now - step


def test_what_is_saved_up_is_bounded() -> None:
    budget = Budget.full(0.5, 0.0).later(1e6)
    assert budget.credit == 0.5 * SAVED_S
    assert budget.later(1e6 - 5.0).credit == 0.5 * SAVED_S, "a clock that steps back takes nothing"
