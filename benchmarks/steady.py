"""Measures what lowers flicker: how steady pictures are along the input's motion, what is lost for it, and what is left of a
scene after a cut.

All ways take turns frame by frame, each in a session of its own with one seed: without either technique, with `consistency`, and
with the warm start. Moving clips give the warped error (mean difference of each picture from the one before, moved along the
input's optical flow, of 255), SSIM and sharpness to the picture without, the difference from it on ground that was covered
(ghosts would be there), and the processor time of a frame. A stretch with a cut gives SSIM of the first pictures after it: to
those without the technique, and to those of a session that begins at the cut, which are the same if nothing of the old scene is
left. Cuts are also measured with the feature cache on, and between dim scenes, where the change of the input is small.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import cv2
import numpy as np

from benchmarks import clips, machine
from benchmarks.configurations import OFF, Patch
from benchmarks.measure import add_look_arguments, positive
from pipelines import Entry, Frame, Pixels, Settings, StreamPipeline, StreamSpec, load, quality
from studio.environment import cache_dir
from training.judging.measures import Flow, difference

WAYS: Mapping[str, Patch] = {
    "off": {"consistency.enabled": False},
    "consistency": {"consistency.enabled": True},
    "warm start 0.3": {"consistency.enabled": False, "noise.warm_start": 0.3},
    "warm start 0.5": {"consistency.enabled": False, "noise.warm_start": 0.5},
}
CACHE: Patch = {"cache.enabled": True}
STRETCHES = (("handheld", 40), ("portrait", 40), ("stars", 40), ("film", 40))
"""Clips without a cut here, and the first frame."""

CUTS = ((("handheld", 40), ("portrait", 40)), (("film", 40), ("stars", 40)), (("stars", 60), ("handheld", 60)))
BEFORE, AFTER = 4, 4
"""Frames of each scene around a cut."""

DIM = 0.25
"""Brightness of a dim scene."""

LOOKS = (
    "photograph",
    "neon outlines",
    "film noir",
    "thermal camera",
    "oil painting",
    "cartoon",
    "ink drawing",
    "mosaic",
    "pencil sketch",
)


def stretch(name: str, start: int, count: int, size: int, brightness: float = 1.0) -> list[Pixels]:
    """Frames of a clip; none where the clip is not there."""
    if name not in clips.names():
        return []
    clip = clips.clip(name, size, size)
    return [np.asarray(clip[index] * brightness, np.uint8) for index in range(start, min(start + count, len(clip)))]


@dataclass
class Run:
    """The pictures of one way, and the processor milliseconds of each."""

    pictures: list[Pixels] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


class Ways:
    """Sessions of one pipeline, with one look, that take turns."""

    def __init__(self, pipeline: StreamPipeline, look: str, strength: float, base: Patch, ways: Mapping[str, Patch]) -> None:
        common = {**OFF, "prompt": look, "strength": strength, "steps": 1, **base}
        self.pipeline = pipeline
        self.settings = {name: Settings().patched({**common, **patch}) for name, patch in ways.items()}
        for settings in self.settings.values():
            pipeline.prepare(settings)

    def run(self, pictures: Sequence[Pixels]) -> dict[str, Run]:
        """Fresh sessions for these inputs."""
        states = {name: self.pipeline.open(settings) for name, settings in self.settings.items()}
        runs = {name: Run() for name in states}
        for index, picture in enumerate(pictures):
            for name, state in states.items():
                before = time.process_time()
                (output,) = self.pipeline.step([Entry(state, Frame(index, index / clips.FPS, picture), self.settings[name])])
                runs[name].cpu_ms.append((time.process_time() - before) * 1000)
                assert output.pixels is not None
                runs[name].pictures.append(np.array(output.pixels.numpy()))
        return runs


def sharpness(picture: Pixels) -> float:
    """Variance of the Laplacian of its grey values."""
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


def moving(runs: Mapping[str, Run], flow: Flow) -> dict[str, dict[str, float]]:
    """The figures of each way on a moving stretch. covered: mean difference from "off" on ground that the frame before did not
    show; elsewhere: on all other ground."""
    off, found = runs["off"], {}
    error = flow.error(off.pictures)
    for name, run in runs.items():
        pairs = list(zip(run.pictures[1:], off.pictures[1:], strict=True))
        found[name] = {
            "warped": flow.error(run.pictures),
            "ratio": flow.error(run.pictures) / max(error, 1e-6),
            "ssim": fmean(quality.ssim(one, other) for one, other in pairs),
            "sharpness": fmean(sharpness(one) / max(sharpness(other), 1e-6) for one, other in pairs),
            "covered": flow.apart(run.pictures, off.pictures, False),
            "elsewhere": flow.apart(run.pictures, off.pictures, True),
            "cpu_ms": median(run.cpu_ms[1:]),
            "added_ms": median(one - other for one, other in zip(run.cpu_ms[1:], off.cpu_ms[1:], strict=True)),
        }
    return found


def after_cut(runs: Mapping[str, Run], fresh: Mapping[str, Run], way: str) -> dict[str, Any]:
    """Of the pictures after a cut: SSIM to those without the way, and SSIM and the largest difference of the mean to those of a
    session that begins there."""
    ours, plain = runs[way].pictures[BEFORE:], runs["off"].pictures[BEFORE:]
    new = fresh[way].pictures
    return {
        "ssim_to_off": [quality.ssim(one, other) for one, other in zip(ours, plain, strict=True)],
        "ssim_to_fresh": [quality.ssim(one, other) for one, other in zip(ours, new, strict=True)],
        "apart_from_fresh": max(difference(one, other) for one, other in zip(ours, new, strict=True)),
    }


def sheet(pictures: Sequence[Pixels], runs: Mapping[str, Run], path: Path) -> None:
    """A row for every second frame: the input, and the picture of each way."""
    rows = [
        np.concatenate([pictures[i], *(run.pictures[i] for run in runs.values())], axis=1) for i in range(1, len(pictures), 2)
    ]
    cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])


def rounded(value: Any) -> Any:
    """Numbers inside, to four digits after the point."""
    if isinstance(value, Mapping):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else round(float(value), 4)


def means(rows: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """The mean of each figure of each way over clips and looks."""
    return {name: {key: fmean(row[name][key] for row in rows) for key in rows[0][name]} for name in rows[0]}


def cuts(pipeline: StreamPipeline, looks: Sequence[str], strength: float, size: int) -> dict[str, Any]:
    """The lowest SSIM after cuts over cuts and looks, place by place, with and without the feature cache and at both
    brightnesses."""
    two = {name: WAYS[name] for name in ("off", "consistency")}
    found: dict[str, Any] = {}
    for title, base, brightness in (
        ("plain", {}, 1.0),
        ("plain, dim", {}, DIM),
        ("feature cache", CACHE, 1.0),
        ("feature cache, dim", CACHE, DIM),
    ):
        rows = []
        for look in looks:
            ways = Ways(pipeline, look, strength, base, two)
            for old, new in CUTS:
                before, after = (stretch(*place, count, size, brightness) for place, count in ((old, BEFORE), (new, AFTER)))
                if before and after:
                    rows.append(after_cut(ways.run([*before, *after]), ways.run(after), "consistency"))
        found[title] = {
            "ssim_to_off": [min(values) for values in zip(*(row["ssim_to_off"] for row in rows), strict=True)],
            "ssim_to_fresh": [min(values) for values in zip(*(row["ssim_to_fresh"] for row in rows), strict=True)],
            "apart_from_fresh": max(row["apart_from_fresh"] for row in rows),
        }
        print(title, rounded(found[title]), flush=True)
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_look_arguments(parser, "nine")
    parser.add_argument("--frames", type=positive, default=8, help="of each moving clip")
    parser.add_argument("--cut-prompts", type=positive, default=3, help="how many of the looks are measured at cuts")
    parser.add_argument("--sheets", type=Path, help="folder for pictures of each clip and look")


def main(args: argparse.Namespace) -> dict[str, Any]:
    about = machine.describe()
    pipeline = load(StreamSpec(args.model, args.size, args.size, args.backend, args.dtype), cache_dir())
    looks = args.prompts or list(LOOKS)
    material = {name: stretch(name, start, max(args.frames, 3), args.size) for name, start in STRETCHES}
    flows = {name: Flow(pictures) for name, pictures in material.items() if pictures}
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for look in looks:
        ways = Ways(pipeline, look, args.strength, {}, WAYS)
        for name, flow in flows.items():
            runs = ways.run(material[name])
            rows[f"{name}, {look}"] = moving(runs, flow)
            print(f"{name}, {look}", rounded(rows[f"{name}, {look}"]), flush=True)
            if args.sheets is not None:
                args.sheets.mkdir(parents=True, exist_ok=True)
                sheet(material[name], runs, args.sheets / f"{name}-{look.replace(' ', '-')}.jpg")
    result = {
        "machine": about,
        "model": args.model,
        "size": args.size,
        "strength": args.strength,
        "means": rounded(means(list(rows.values()))),
        "moving": rounded(rows),
        "cuts": rounded(cuts(pipeline, looks[: args.cut_prompts], args.strength, args.size)),
    }
    print(result["means"])
    return result
