"""Searches the feature cache's schedules of a model, and writes the best as presets into the model's folder.

As ECAD (arXiv 2506.15682) and AutoDiffusion (arXiv 2309.10438) do, an evolutionary search (evolution.py) chooses the schedule
on a few calibration clips: which pass each frame after a full one takes, at each level of noise, where passes begin again, and
how much drift of the input ends the order. Two objectives are minimised: multiply-adds of the UNet per frame, counted, and
1 − SSIM to full passes of the same frames. From the front come "fast", "balanced" and "fine": the cheapest schedules with at
least the SSIM of `GOALS`, on the calibration clips and on further, harder ones. The figures are of a third set of clips, and so
are those of the hand-set cascade, with the best schedule that costs no more beside it. A schedule that misses its goal there, or
that the hand-set cascade beats there, is no preset. The search begins with the presets that the model has.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from benchmarks import clips, machine
from benchmarks.evolution import Point, dominates, fronts, search
from benchmarks.measure import add_model_arguments, percentile, positive
from pipelines import Entry, Frame, ModelError, Pixels, Settings, StreamPipeline, StreamSpec, load, presets, quality
from pipelines.techniques.feature_cache import PLAIN, Kind
from studio.environment import cache_dir

GOALS: Mapping[str, float] = {"fast": 0.97, "balanced": 0.985, "fine": 0.995}
HAND: Mapping[str, object] = {"cache.enabled": True, "cache.interval": 3, "cache.branch": 1, "cache.cascade": True}
LONGEST = 9
"""Short passes in a row, at most."""

DRIFTS = (0.01, 0.015, 0.02, 0.03, 0.045, 0.06)
COUNT_SIZE = 128
"""Pixels of the pictures on which multiply-adds are counted; only their ratios are used."""

SEARCHED = (("handheld", 100), ("portrait", 100))
CHOSEN_ON = (("handheld", 60), ("stars", 60), ("film", 40), ("pauses", 180))
HELD_OUT = (("handheld", 20), ("stars", 118), ("portrait", 180), ("film", 0))
"""Clips, and the first frame of the stretch: of the search, of the choice of presets, and of the figures. The cut of "stars" is
in the last."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """branch: where deep short passes begin. patterns: the passes after a full one, by level. drift: of the input that ends the
    order, None for none."""

    branch: int
    patterns: tuple[str, ...]
    drift: float | None

    @property
    def patch(self) -> dict[str, Any]:
        """As settings by dotted key."""
        policy = {"cache.policy": "interval"} if self.drift is None else {"cache.policy": "adaptive", "cache.drift": self.drift}
        return {"cache.enabled": True, "cache.branch": self.branch, "cache.pattern": "/".join(self.patterns), **policy}


def drawn(branches: int, levels: int, dice: random.Random) -> Schedule:
    """A schedule by chance."""
    pattern = "".join(dice.choice("ds") for _ in range(dice.randint(1, LONGEST)))
    return Schedule(dice.randrange(branches), (pattern,) * levels, dice.choice((None, *DRIFTS)))


def child(branches: int, one: Schedule, other: Schedule, dice: random.Random) -> Schedule:
    """Each part from one of the parents; then one part changes a little."""
    patterns = tuple(dice.choice(pair) for pair in zip(one.patterns, other.patterns, strict=True))
    made = Schedule(dice.choice((one.branch, other.branch)), patterns, dice.choice((one.drift, other.drift)))
    match dice.randrange(4):
        case 0:
            return replace(made, branch=min(max(made.branch + dice.choice((-1, 1)), 0), branches - 1))
        case 1:
            return replace(made, drift=dice.choice((None, *DRIFTS)))
    place = dice.randrange(len(patterns))
    return replace(made, patterns=(*patterns[:place], _changed(patterns[place], dice), *patterns[place + 1 :]))


def _changed(pattern: str, dice: random.Random) -> str:
    """The pattern with one pass more, less, or of the other kind."""
    place = dice.randrange(len(pattern))
    kind = dice.choice(("more", "less", "other"))
    if kind == "more" and len(pattern) < LONGEST:
        return pattern[:place] + dice.choice("ds") + pattern[place:]
    if kind == "less" and len(pattern) > 1:
        return pattern[:place] + pattern[place + 1 :]
    return pattern[:place] + ("s" if pattern[place] == "d" else "d") + pattern[place + 1 :]


def multiply_adds(model: str, branches: int) -> dict[Kind, float]:
    """Multiply-adds of each kind of pass, as a share of the plain one's; counted on torch's own operations."""
    pipeline = load(StreamSpec(model, COUNT_SIZE, COUNT_SIZE, "eager", "float32"), warm=False)
    grey = clips.clip("handheld", COUNT_SIZE, COUNT_SIZE)
    counts: dict[Kind, float] = {}
    real: Any = pipeline.graphs.run

    def counted(part: str, inputs: Any, *more: Any) -> Any:
        with FlopCounterMode(display=False) as counter:
            outputs = real(part, inputs, *more)
        counts[part, more[0] if more else None] = float(counter.get_total_flops())
        return outputs

    pipeline.graphs.run = counted  # type: ignore[method-assign, assignment]
    for patch in ({}, *({"cache.enabled": True, "cache.branch": branch, "cache.pattern": "ds"} for branch in range(branches))):
        settings = Settings().patched(patch)
        pipeline.prepare(settings)
        state = pipeline.open(settings)
        for index in range(3):
            pipeline.step([Entry(state, Frame(index, 0.0, grey[index]), settings)])
        if patch:  # without the cascade a short pass keeps nothing
            flat = settings.patched({"cache.pattern": "d"})
            pipeline.prepare(flat)
            state = pipeline.open(flat)
            for index in range(2):
                pipeline.step([Entry(state, Frame(index, 0.0, grey[index]), flat)])
    pipeline.close()
    return {kind: count / counts[PLAIN] for kind, count in counts.items() if kind[0] in ("full", "shallow", "relay")}


@dataclass(frozen=True, slots=True)
class Result:
    """Over all frames: share of the multiply-adds of full passes, mean SSIM to them, its 5th percentile; and the worst look."""

    cost: float
    ssim: float
    low: float
    worst: float

    @property
    def point(self) -> Point:
        return self.cost, 1.0 - self.ssim


class Judge:
    """Measures schedules of one pipeline on stretches of clips, each with each look."""

    def __init__(
        self, pipeline: StreamPipeline, costs: Mapping[Kind, float], base: Mapping[str, object], looks: Sequence[str]
    ) -> None:
        self.pipeline, self.costs, self.base, self.looks = pipeline, costs, base, looks
        self._references: dict[tuple[str, int, str], list[Pixels]] = {}

    def measure(self, patch: Mapping[str, object], stretches: Mapping[tuple[str, int], Sequence[Pixels]]) -> Result:
        ssim: dict[str, list[float]] = {look: [] for look in self.looks}
        rows: Counter[Kind] = Counter()
        for (name, start), pictures in stretches.items():
            for look in self.looks:
                key = (name, start, look)
                if key not in self._references:
                    self._references[key], _ = self._run({}, look, pictures)
                made, work = self._run(patch, look, pictures)
                rows += work
                ssim[look] += [quality.ssim(a, b) for a, b in zip(made, self._references[key], strict=True)]
        every = [value for values in ssim.values() for value in values]
        cost = sum(self.costs[kind] * count for kind, count in rows.items()) / rows.total()
        return Result(cost, fmean(every), percentile(every, 0.05), min(map(fmean, ssim.values())))

    def _run(self, patch: Mapping[str, object], look: str, pictures: Sequence[Pixels]) -> tuple[list[Pixels], Counter[Kind]]:
        settings = Settings().patched({**self.base, "prompt": look, "stream_batch.enabled": False, **patch})
        self.pipeline.prepare(settings)
        state = self.pipeline.open(settings)
        made, rows = [], Counter[Kind]()
        for index, picture in enumerate(pictures):
            (output,) = self.pipeline.step([Entry(state, Frame(index, index / clips.FPS, picture), settings)])
            assert output.pixels is not None
            made.append(output.pixels.numpy())
            for ((kind, _), _), count in self.pipeline.work.items():
                if kind in self.costs:
                    rows[kind] += count
        return made, rows


def stretches(places: Sequence[tuple[str, int]], size: int, frames: int) -> dict[tuple[str, int], list[Pixels]]:
    """The frames of each place whose clip is there."""
    found = {}
    for name, start in places:
        if name in clips.names():
            clip = clips.clip(name, size, size)
            found[name, start] = [clip[index] for index in range(start, min(start + frames, len(clip)))]
    return found


def named(results: Mapping[Schedule, Result]) -> dict[str, Schedule]:
    """The cheapest schedule for each goal, the fastest first; a goal that none reaches has no preset."""
    chosen: dict[str, Schedule] = {}
    for name, goal in GOALS.items():
        good = [schedule for schedule, result in results.items() if result.ssim >= goal]
        if good:
            chosen[name] = min(good, key=lambda schedule: results[schedule].cost)
    return chosen


def worse(one: Result, other: Result) -> Result:
    """The larger cost and the lower SSIM of two."""
    return Result(max(one.cost, other.cost), min(one.ssim, other.ssim), min(one.low, other.low), min(one.worst, other.worst))


def proven(chosen: Mapping[str, Schedule], results: Mapping[Schedule, Result], hand: Result) -> dict[str, Schedule]:
    """Those that reach their goal on these clips too, where the hand-set cascade is not both cheaper and closer."""
    return {
        name: schedule
        for name, schedule in chosen.items()
        if results[schedule].ssim >= GOALS[name] and not dominates(hand.point, results[schedule].point)
    }


def begun(found: Sequence[presets.Preset], branches: int, levels: int) -> list[Schedule]:
    """The schedules of a model's presets, as far as this search could draw them."""
    schedules = []
    for preset in found:
        settings = Settings().patched(preset.settings)
        cache, patterns = settings.cache, tuple(settings.cache.pattern.split("/"))
        if settings.steps == levels == len(patterns) and all(patterns) and cache.branch < branches:
            schedules.append(Schedule(cache.branch, patterns, cache.drift if cache.policy == "adaptive" else None))
    return schedules


def best_within(results: Mapping[Schedule, Result], cost: float) -> Schedule | None:
    """The closest schedule that costs no more than that."""
    return max((one for one in results if results[one].cost <= cost), key=lambda one: results[one].ssim, default=None)


def write(folder: Path, chosen: Mapping[str, Schedule], results: Mapping[Schedule, Result]) -> Path:
    """The presets' file. Raises ModelError where a model would not read it."""
    entries = [
        {
            "name": name,
            "settings": schedule.patch,
            "cost": round(results[schedule].cost, 3),
            "ssim": round(results[schedule].ssim, 4),
        }
        for name, schedule in chosen.items()
    ]
    path = folder / presets.FILE
    path.write_text(json.dumps({"presets": entries}, indent=1) + "\n", "utf-8")
    presets.read_presets(folder)
    return path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=positive, default=1)
    parser.add_argument("--strength", type=float, default=0.5)
    parser.add_argument("--frames", type=positive, default=12, help="of each clip")
    parser.add_argument("--population", type=positive, default=12)
    parser.add_argument("--generations", type=positive, default=5)
    parser.add_argument("--branches", type=positive, default=4, help="re-entry points that are tried, from 0 on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompts", action="append", metavar="PROMPT", help="a look; may be repeated (default: three)")
    parser.add_argument("--write", action="store_true", help="write the presets into the model's folder")


def main(args: argparse.Namespace) -> dict[str, Any]:
    pipeline = load(StreamSpec(args.model, args.size, args.size, args.backend, args.dtype), cache_dir())
    looks = args.prompts or list(pipeline.info.prompts)[:3] or [Settings().prompt]
    branches = min(args.branches, pipeline.branches)
    costs = multiply_adds(args.model, branches)
    base: dict[str, object] = {"steps": args.steps, "strength": args.strength}
    judge, dice = Judge(pipeline, costs, base, looks), random.Random(args.seed)
    seen, unseen = stretches(SEARCHED, args.size, args.frames), stretches(HELD_OUT, args.size, args.frames)
    first = [Schedule(1, ("ds",) * args.steps, None), *begun(pipeline.info.presets, branches, args.steps)]
    first += [drawn(branches, args.steps, dice) for _ in range(args.population - len(first))]

    known: dict[Schedule, Result] = {}

    def measure(schedule: Schedule) -> Point:
        known[schedule] = result = judge.measure(schedule.patch, seen)
        print(f"{result.cost:.3f} {result.ssim:.4f} {schedule}", flush=True)
        return result.point

    found = search(first, measure, lambda a, b, dice: child(branches, a, b, dice), args.generations, dice)
    schedules = list(found)
    front = {schedules[i]: known[schedules[i]] for i in fronts(list(found.values()))[0]}
    further = stretches(CHOSEN_ON, args.size, args.frames)
    checked = {schedule: worse(result, judge.measure(schedule.patch, further)) for schedule, result in front.items()}
    held = {schedule: judge.measure(schedule.patch, unseen) for schedule in front}
    hand = judge.measure(HAND, unseen)
    rival = best_within(checked, worse(judge.measure(HAND, seen), judge.measure(HAND, further)).cost)
    chosen = proven(named(checked), held, hand)
    if args.write and chosen:
        if not isinstance(pipeline.info.base, Path):
            raise ModelError(f"{args.model} has no folder of its own for presets")
        print(write(pipeline.info.base, chosen, held))
    return {
        "machine": machine.describe(),
        "model": args.model,
        "size": args.size,
        "steps": args.steps,
        "looks": looks,
        "costs": {f"{part}-{branch}": round(cost, 3) for (part, branch), cost in costs.items()},
        "measured": len(found),
        "hand": _figures(hand),
        "at_the_cost_of_hand": None if rival is None else {**_figures(held[rival]), **rival.patch},
        "missed": [name for name in GOALS if name not in chosen],
        "front": [{**_figures(held[one]), **one.patch} for one in sorted(front, key=lambda one: held[one].cost)],
        "presets": {name: {**_figures(held[one]), **one.patch} for name, one in chosen.items()},
    }


def _figures(result: Result) -> dict[str, float]:
    return {
        "cost": round(result.cost, 4),
        "ssim": round(result.ssim, 4),
        "ssim_p05": round(result.low, 4),
        "worst": round(result.worst, 4),
    }
