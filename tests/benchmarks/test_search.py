"""The search of schedules: genes stay inside, a choice is the cheapest that is good enough, and a model reads the file."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from benchmarks.search import GOALS, LONGEST, Result, Schedule, best_within, child, drawn, multiply_adds, named, write
from pipelines import ModelError, Settings, presets


def result(cost: float, ssim: float) -> Result:
    return Result(cost, ssim, ssim, ssim)


def test_children_are_schedules_that_the_settings_take_and_differ() -> None:
    dice, branches, levels = random.Random(1), 3, 2
    living = [drawn(branches, levels, dice) for _ in range(6)]
    seen = set(living)
    for _ in range(400):
        made = child(branches, dice.choice(living), dice.choice(living), dice)
        Settings().patched(made.patch)
        assert 0 <= made.branch < branches and len(made.patterns) == levels
        assert all(1 <= len(pattern) <= LONGEST for pattern in made.patterns)
        living[dice.randrange(6)] = made
        seen.add(made)
    assert len(seen) > 200
    assert {one.branch for one in seen} == {0, 1, 2} and {one.drift is None for one in seen} == {True, False}


def test_a_preset_is_the_cheapest_schedule_that_reaches_its_goal() -> None:
    cheap, middle, dear = (Schedule(1, ("d" * n,), None) for n in (9, 3, 1))
    found = named({cheap: result(0.2, 0.975), middle: result(0.4, 0.99), dear: result(0.7, 0.999)})
    assert found == {"fast": cheap, "balanced": middle, "fine": dear} and list(found) == list(GOALS)
    assert named({cheap: result(0.2, 0.5)}) == {}


def test_the_rival_of_the_hand_set_schedule_costs_no_more() -> None:
    cheap, dear = Schedule(0, ("d",), None), Schedule(1, ("d",), None)
    results = {cheap: result(0.4, 0.97), dear: result(0.6, 0.99)}
    assert best_within(results, 0.5) is cheap and best_within(results, 0.6) is dear and best_within(results, 0.1) is None


def test_what_is_written_is_what_a_model_reads(tmp_path: Path) -> None:
    schedule = Schedule(2, ("dss", "d"), 0.02)
    write(tmp_path, {"fast": schedule}, {schedule: result(0.3333333, 0.98765)})
    (preset,) = presets.read_presets(tmp_path)
    assert (preset.name, preset.cost, preset.ssim, preset.settings) == ("fast", 0.333, 0.9877, schedule.patch)
    with pytest.raises(ModelError):
        write(tmp_path, {"": schedule}, {schedule: result(0.3, 0.9)})


def test_multiply_adds_grow_with_the_branch_and_stay_below_the_full_pass(mini_model: Path) -> None:
    costs = multiply_adds(str(mini_model), 3)
    assert costs["full", None] == 1.0 and costs["full", 1] == pytest.approx(1.0, rel=0.01)
    assert 0.0 < costs["shallow", 0] < costs["shallow", 1] < costs["shallow", 2] < 1.0
    assert costs["relay", 1] == pytest.approx(costs["shallow", 1], rel=0.05)
    assert json.dumps({f"{part}-{branch}": cost for (part, branch), cost in costs.items()})
