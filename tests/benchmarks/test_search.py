"""The search of schedules: genes stay inside, a choice is the cheapest that is good enough, and a model reads the file."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from benchmarks.search import (
    GOALS,
    LONGEST,
    Result,
    Schedule,
    begun,
    best_within,
    child,
    drawn,
    multiply_adds,
    named,
    proven,
    worse,
    write,
)
from pipelines import ModelError, Settings, describe, presets


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


def test_a_preset_keeps_its_goal_on_other_clips_and_is_not_beaten_by_hand() -> None:
    kept, missed, beaten = (Schedule(1, ("d" * n,), None) for n in (1, 2, 3))
    hand, chosen = result(0.52, 0.986), {"fast": kept, "balanced": missed, "fine": beaten}
    figures = {kept: result(0.4, 0.975), missed: result(0.4, 0.984), beaten: result(0.6, 0.9959)}
    assert proven(chosen, figures, hand) == {"fast": kept, "fine": beaten}
    assert proven(chosen, figures, result(0.52, 0.999)) == {"fast": kept}
    assert worse(Result(0.3, 0.9, 0.8, 0.7), Result(0.4, 0.95, 0.7, 0.75)) == Result(0.4, 0.9, 0.7, 0.7)


def test_the_search_begins_with_presets_that_it_could_draw() -> None:
    drift, plain = Schedule(1, ("dss",), 0.02), Schedule(0, ("d",), None)
    far, two_levels = Schedule(7, ("d",), None), Schedule(1, ("d", "ds"), None)
    found = [presets.Preset("a", one.patch, 0.4, 0.98) for one in (drift, plain, far, two_levels)]
    found.append(presets.Preset("b", {"cache.enabled": True, "cache.interval": 3}, 0.5, 0.98))
    found.append(presets.Preset("c", {**two_levels.patch, "steps": 2}, 0.5, 0.98))
    assert begun(found, 3, 1) == [drift, plain] and begun(found, 3, 2) == [two_levels]


def test_pocket_ships_a_preset_for_every_goal() -> None:
    shipped = {preset.name: preset for preset in describe("pocket").presets}
    assert list(shipped) == list(GOALS)
    assert all(shipped[name].ssim >= goal for name, goal in GOALS.items())
    assert sorted(shipped.values(), key=lambda preset: preset.cost) == list(shipped.values())
