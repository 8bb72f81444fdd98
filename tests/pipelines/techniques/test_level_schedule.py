from statistics import fmean

import pytest

from pipelines.techniques import level_schedule
from pipelines.values.settings import SCHEDULES, Settings

T = [k / 1000 for k in range(1001)]


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_the_mean_over_all_levels_is_what_was_set(kind: str) -> None:
    weights = [level_schedule.weight(kind, t, 0.0, 1.0) for t in T]
    assert fmean(weights) == pytest.approx(1.0) and min(weights) >= 0.0
    if kind != "constant":
        assert weights == sorted(weights, reverse=True), "weakest in noise"
        assert (weights[0], weights[-1]) == pytest.approx((2.0, 0.0))


def test_the_interval_has_a_lower_bound_that_is_outside_and_an_upper_one_that_is_inside() -> None:
    assert [level_schedule.weight("interval", t, 0.2, 0.6) for t in (0.1, 0.2, 0.21, 0.6, 0.61)] == [0, 0, 1, 1, 0]
    assert not any(level_schedule.weight("interval", t, 0.6, 0.2) for t in T)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_guidance_and_omega_are_scaled_around_no_effect(kind: str) -> None:
    settings = Settings().patched({"guidance": 3.0, "omega": 0.8, "guidance_schedule": kind, "omega_schedule": kind})
    for t in (0.0, 0.3, 0.9, 1.0):
        w = level_schedule.weight(kind, t, settings.interval_low, settings.interval_high)
        assert level_schedule.guidance(settings, t) == pytest.approx(1 + 2 * w)
        assert level_schedule.omega(settings, t) == pytest.approx(1 - 0.2 * w)
    assert level_schedule.guidance(settings.patched({"guidance": 1.0}), 0.3) == 1.0
