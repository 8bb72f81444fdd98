"""Measures every acceleration alone, all together, and all but each: gain in speed and loss of quality.

The configurations of a group take turns on the same stretch of a clip, each in a fresh session with the same seed, so other work
on the machine affects all of them. Ratios are formed for each stretch; the result is the median over stretches. Each stretch
uses the next look of the list. Quality compares with the group's unaccelerated picture of the same frame, over the frames that
the technique touched.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks import chart, clips, machine
from benchmarks.configurations import Configuration, Group, groups, touched
from benchmarks.measure import MODEL_STAGES, Block, Closeness, Stretch, add_model_arguments, positive, ratios, rounded_median
from pipelines import Pixels, Settings, SettingsError, StreamPipeline, StreamSpec, load, media
from studio.environment import cache_dir
from training.judging.measures import Flow

LEAD = 4
"""Frames before the measurement: they fill a stream batch of four, and the history of gate and cache."""

PAUSED_FRAMES = 175
"""One period of the clip "pauses", with 50 frames of pause (28.6%). Always used as a whole, so the share is constant."""

KINDS = ("moving", "paused", "head")


@dataclass(frozen=True)
class LoadedClip:
    """A clip in memory, at one size. kind: moving; paused if the input stands still for a while; head, of a talking head."""

    name: str
    kind: str
    pictures: list[Pixels]

    def middle(self, count: int) -> list[Pixels]:
        """`count` frames around the middle, where the moving clips have their cut; all frames if there are fewer."""
        start = max(0, (len(self.pictures) - count) // 2)
        return self.pictures[start : start + count]


@dataclass
class Record:
    """Results of one configuration of one group on one kind of clip, by stretch."""

    configuration: Configuration
    blocks: list[Block] = field(default_factory=list)
    closeness: Closeness = field(default_factory=Closeness)
    warped: list[float] = field(default_factory=list)

    def keep(self, block: Block, reference: Block, sources: Sequence[Pixels], flow: Flow | None) -> None:
        places = range(LEAD, len(sources))
        self.closeness.add(block, reference, touched(self.configuration, block, places))
        self.closeness.add_flicker(block, sources, places)
        if flow is not None:
            self.warped.append(flow.error([block.pictures[place] for place in range(len(sources))]))
        self.blocks.append(block)

    def figures(self, reference: Record) -> dict[str, Any]:
        """Medians over the stretches. Ratios to the reference are formed for each stretch; above 1 is better."""
        theirs = reference.blocks
        verdicts = sum((block.verdicts for block in self.blocks), Counter[str]())
        total = sum(verdicts.values()) - verdicts["warming"]
        stages = {stage: list(chain.from_iterable(block.stages[stage] for block in self.blocks)) for stage in MODEL_STAGES}
        return {
            "model_fps": rounded_median([block.model_fps for block in self.blocks], 2),
            "model_fps_ratio": rounded_median(
                ratios([block.model_fps for block in self.blocks], [block.model_fps for block in theirs])
            ),
            "shown_per_cpu_s": rounded_median([block.shown_per_cpu_s for block in self.blocks], 2),
            "shown_per_cpu_s_ratio": rounded_median(
                ratios([block.shown_per_cpu_s for block in self.blocks], [block.shown_per_cpu_s for block in theirs])
            ),
            "stage_ms": {stage: rounded_median(values, 2) for stage, values in stages.items()},
            "denoise_mean_ms": round(fmean(stages["denoise"]), 2) if stages["denoise"] else None,
            "denoise_ratio": rounded_median(
                ratios([block.denoise_ms for block in theirs], [block.denoise_ms for block in self.blocks])
            ),
            "share": {name: round(verdicts[name] / total, 3) if total else 0.0 for name in ("generated", "cached", "skipped")},
            "skipped_tile_max": round(max(block.skipped_tile for block in self.blocks), 4),
            "stretches": len(self.blocks),
            "warped": rounded_median(self.warped, 2),
            "warped_ratio": rounded_median(ratios(self.warped, reference.warped)),
            **self.closeness.summary(),
        }


class Ablation:
    """One pipeline, some material, some looks."""

    def __init__(self, pipeline: StreamPipeline, material: Sequence[LoadedClip], prompts: Sequence[str], strength: float) -> None:
        self.pipeline, self.material, self.prompts, self.strength = pipeline, material, prompts, strength
        self._turn = 0

    def group(self, group: Group, frames: int | None, repeats: int | None) -> dict[str, Any]:
        """All configurations of the group, by kind of clip. Those that the model does not support are in "refused"."""
        chosen, refused = self._prepared(group)
        if not chosen or chosen[0].parts:  # without the reference there is nothing to compare with
            return {"title": group.title, "refused": refused}
        records = {kind: {c.name: Record(c) for c in chosen} for kind in KINDS}
        for material in self._stretches(group, repeats or group.repeats):
            count = len(material.pictures) if material.kind == "paused" else (frames or group.frames) + LEAD
            self._take_turns(material.middle(count), records[material.kind], group.warped)
        result: dict[str, Any] = {"title": group.title, "refused": refused}
        for kind, found in records.items():
            reference = next(iter(found.values()))
            if reference.blocks:
                result[kind] = {name: record.figures(reference) for name, record in found.items()}
        return result

    def _prepared(self, group: Group) -> tuple[list[Configuration], dict[str, str]]:
        """The configurations that this model supports, with their graphs built, also graphs for negative rows in the same
        call."""
        chosen, refused = [], {}
        for configuration in group.configurations():
            try:
                settings = self._settings(configuration, self.prompts[0])
                self.pipeline.check(settings)
            except SettingsError as error:
                refused[configuration.name] = str(error)
                continue
            for sessions in (1, 2) if settings.guidance_mode in ("full", "adaptive") else (1,):
                self.pipeline.prepare(settings, sessions)
            chosen.append(configuration)
        return chosen, refused

    def _settings(self, configuration: Configuration, prompt: str) -> Settings:
        return Settings().patched({"prompt": prompt, "strength": self.strength, **configuration.patch})

    def _stretches(self, group: Group, repeats: int) -> Iterator[LoadedClip]:
        kinds = {"moving"} | ({"paused"} if group.pauses else set()) | ({"head"} if group.heads else set())
        for _ in range(repeats):
            yield from (material for material in self.material if material.kind in kinds)

    def _take_turns(self, sources: list[Pixels], records: dict[str, Record], warped: bool) -> None:
        prompt = self.prompts[self._turn % len(self.prompts)]
        self._turn += 1
        reference: Block | None = None
        flow = Flow(sources) if warped else None
        for record in records.values():
            block = Stretch(self.pipeline, self._settings(record.configuration, prompt), sources, LEAD).run()
            reference = reference or block
            record.keep(block, reference, sources, flow)
            if block is not reference:
                block.pictures.clear()
        if reference is not None:
            reference.pictures.clear()


def load_clips(names: Sequence[str], size: int, frames: int) -> list[LoadedClip]:
    """The clips in memory. A name of benchmarks/clips.py or a path. Raises MediaError."""
    found = []
    for name in names:
        if name in clips.names():
            scene = clips.SCENES.get(name)
            head = scene is not None and scene.head
            paused = scene is not None and not head and (bool(scene.pauses) or scene.motion == 0.0)
            clip = clips.clip(name, size, size)
            count = PAUSED_FRAMES if scene is not None and scene.pauses else frames + LEAD
            start = 0 if paused else max(0, (len(clip) - count) // 2)
            pictures = [clip[index] for index in range(start, min(start + count, len(clip)))]
            found.append(LoadedClip(name, "head" if head else "paused" if paused else "moving", pictures))
        else:
            pictures = [picture for picture, _ in zip(media.read(Path(name), size, size), range(frames + LEAD), strict=False)]
            if len(pictures) <= LEAD:
                raise media.MediaError(f"{name}: has {len(pictures)} frame(s); more than {LEAD} are needed")
            found.append(LoadedClip(Path(name).name, "moving", pictures))
    return found


COLUMNS = (
    "fps",
    "×",
    "shown/CPU s",
    "×",
    "denoise ms",
    "×",
    "SSIM",
    "5%",
    "PSNR",
    "flicker",
    "warped",
    "×",
    "touched",
    "gen/sh/sk %",
)


def table(result: dict[str, Any]) -> str:
    """The groups as text, one line per configuration."""
    lines = []
    for group in result["groups"].values():
        for kind in KINDS:
            if kind not in group:
                continue
            lines += ["", f"{group['title']}, {kind} clips", "".join([f"{'':18}", *(f"{name:>13}" for name in COLUMNS)])]
            lines += [_row(name, figures) for name, figures in group[kind].items()]
        lines += [f"not with this model: {name} ({reason})" for name, reason in group["refused"].items()]
    return "\n".join(lines)


def _row(name: str, f: dict[str, Any]) -> str:
    share = "/".join(f"{f['share'][verdict] * 100:.0f}" for verdict in ("generated", "cached", "skipped"))
    cells: tuple[object, ...] = (
        f["model_fps"],
        f["model_fps_ratio"],
        f["shown_per_cpu_s"],
        f["shown_per_cpu_s_ratio"],
        f["denoise_mean_ms"],
        f["denoise_ratio"],
    )
    cells += (f["ssim_mean"], f["ssim_p05"], f["psnr_db"], f["flicker"], f["warped"], f["warped_ratio"], f["touched"], share)
    return "".join([f"{name:18}", *(f"{'-' if cell is None else cell:>13}" for cell in cells)])


def points(result: dict[str, Any]) -> list[chart.Point]:
    """The accelerated configurations that touched frames, as points of the chart."""
    return [
        chart.Point(f"{group['title']}, {kind} clips", name, (f["model_fps_ratio"], f["shown_per_cpu_s_ratio"]), f["ssim_mean"])
        for group in result["groups"].values()
        for kind in KINDS
        for name, f in group.get(kind, {}).items()
        if name != "all off" and None not in (f["ssim_mean"], f["model_fps_ratio"], f["shown_per_cpu_s_ratio"])
    ]


def picture(result: dict[str, Any], target: Path) -> None:
    """Write the speed-quality chart, if any configuration touched a frame."""
    found = points(result)
    if not found:
        return
    title = f"Speed and likeness: {result['model']} at {result['size']}x{result['size']}, {result['backend']} {result['dtype']}"
    panels = ("generated + cached frames per second, to all off", "shown frames per CPU second, to all off")
    target.parent.mkdir(parents=True, exist_ok=True)
    chart.draw(found, title, panels, "mean SSIM to all off, over touched frames").save(target)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--clip", action="append", metavar="NAME|PATH", help="may be repeated (default: the moving ones, and pauses)"
    )
    parser.add_argument(
        "--frames", type=positive, help="measured frames per stretch (default: 60 at one step, 18 at four; pauses: 171)"
    )
    parser.add_argument("--repeats", type=positive, help="stretches per clip (default: 2, four steps with guidance 1)")
    parser.add_argument("--size", type=int, default=512)
    add_model_arguments(parser)
    parser.add_argument("--strength", type=float, default=0.5)
    parser.add_argument("--guidance", type=float, default=1.5, help="γ where there is guidance")
    parser.add_argument(
        "--prompts", action="append", metavar="PROMPT", help="a look; may be repeated (default: the model's examples)"
    )
    parser.add_argument("--groups", nargs="+", choices=list(groups(1.5)), help="default: all")
    parser.add_argument(
        "--picture", type=Path, help="speed-quality PNG (default: benchmarks/results/ablation.png, unless --no-keep)"
    )


def main(args: argparse.Namespace) -> dict[str, Any]:
    about = machine.describe()
    pipeline = load(StreamSpec(args.model, args.size, args.size, args.backend, args.dtype), cache_dir())
    presets = {preset.name: preset.settings for preset in pipeline.info.presets if preset.settings.get("steps", 1) == 1}
    known = groups(args.guidance, presets)
    chosen = {name: group for name, group in known.items() if name in (args.groups or known)}
    frames = args.frames or max(group.frames for group in chosen.values())
    names = args.clip or [*clips.MOVING, *(name for name in clips.names() if name == "film"), "pauses", "head"]
    material = load_clips(names, args.size, frames)
    ablation = Ablation(pipeline, material, args.prompts or pipeline.info.prompts or (Settings().prompt,), args.strength)
    result: dict[str, Any] = {
        "machine": about,
        "model": args.model,
        "size": args.size,
        "backend": pipeline.spec.backend,
        "dtype": pipeline.spec.dtype,
        "strength": args.strength,
        "guidance": args.guidance,
        "prompts": list(ablation.prompts),
        "clips": {item.name: {"kind": item.kind, "frames": len(item.pictures)} for item in material},
        "groups": {},
    }
    for name, group in chosen.items():
        result["groups"][name] = ablation.group(group, args.frames, args.repeats)
    print(table(result))
    target = args.picture or (None if args.no_keep else machine.RESULTS / f"{args.keep_as}.png")
    if target is not None:
        picture(result, target)
    return result
