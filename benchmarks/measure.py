"""Arithmetic of the benchmarks: blocks of frames through one session, and statistics of blocks. No printing, no files."""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

import numpy as np

from pipelines import Entry, Frame, Output, Pixels, Settings, StreamPipeline, StreamSpec, gate, quality

MODEL_STAGES = ("encode", "denoise", "decode")


def positive(text: str) -> int:
    """A whole number of 1 or more from the command line. Raises ArgumentTypeError."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for model, backend and precision."""
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--backend", default="auto", choices=StreamSpec.BACKENDS)
    parser.add_argument("--dtype", default="auto", choices=StreamSpec.DTYPES)


def add_look_arguments(parser: argparse.ArgumentParser, looks: str) -> None:
    """Add those of `add_model_arguments`, and the options for size, strength and looks. looks: how many there are without one."""
    add_model_arguments(parser)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--strength", type=float, default=0.5)
    parser.add_argument("--prompts", action="append", metavar="PROMPT", help=f"a look; may be repeated (default: {looks})")


def percentile(values: Sequence[float], share: float) -> float:
    """The quantile `share` (0..1) of `values`, with linear interpolation. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values")
    return float(np.quantile(np.asarray(values, dtype=np.float64), share))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """ours / theirs, by block. Blocks without a measurement on one side are left out."""
    return [a / b for a, b in zip(ours, theirs, strict=True) if a > 0 and b > 0]


def rounded_median(values: Sequence[float], digits: int = 3) -> float | None:
    """The median, rounded; None for no values."""
    return round(median(values), digits) if values else None


def pooled_psnr(values: Iterable[float]) -> float | None:
    """PSNR in dB of the mean squared error over all pictures, from each PSNR; None if all are identical, or for no values."""
    errors = [0.0 if math.isinf(value) else 10 ** (-value / 10) for value in values]
    return -10 * math.log10(fmean(errors)) if errors and any(errors) else None


@dataclass(slots=True)
class Block:
    """Results of one configuration on one stretch of a clip.

    Pictures and sets are by index in the stretch, for all its frames. Times and counts leave out the frames that only filled the
    stream.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    verdicts: Counter[str] = field(default_factory=Counter)
    stages: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in MODEL_STAGES})
    pictures: dict[int, Pixels] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)
    cached: set[int] = field(default_factory=set)
    dropped_rows: set[int] = field(default_factory=set)
    skipped_tile: float = 0.0  # largest tile change of a skipped frame

    @property
    def made(self) -> int:
        """Generated and cached frames."""
        return self.verdicts["generated"] + self.verdicts["cached"]

    @property
    def shown(self) -> int:
        """Distinct answered source frames, including skips."""
        return self.made + self.verdicts["skipped"]

    @property
    def model_fps(self) -> float:
        """Generated and cached pictures per second."""
        return self.made / self.wall_s if self.wall_s > 0 else 0.0

    @property
    def shown_per_cpu_s(self) -> float:
        return self.shown / self.cpu_s if self.cpu_s > 0 else 0.0

    @property
    def denoise_ms(self) -> float:
        """The mean, not the median: with a cache two of three frames are cheap, and the third is not."""
        return fmean(self.stages["denoise"]) if self.stages["denoise"] else 0.0


class Stretch:
    """A fresh session with a stretch of a clip as input. The first `lead` frames fill the stream before the measurement."""

    def __init__(self, pipeline: StreamPipeline, settings: Settings, pictures: Sequence[Pixels], lead: int) -> None:
        self.pipeline, self.settings, self.pictures, self.lead = pipeline, settings, pictures, lead
        self.block = Block()
        self._state = pipeline.open(settings)
        self._gate = gate.Gate(settings.seed)

    def run(self) -> Block:
        """Run the whole stretch. Frames in flight at its end are finished after the measurement."""
        for place in range(self.lead):
            self._feed(place)
        wall, cpu = time.perf_counter(), time.process_time()
        for place in range(self.lead, len(self.pictures)):
            self._feed(place)
        self.block.wall_s, self.block.cpu_s = time.perf_counter() - wall, time.process_time() - cpu
        while self._state.in_flight:
            self._take(self._step(None), counted=False)
        for place in sorted(self.block.skipped):
            if place - 1 in self.block.pictures:
                self.block.pictures[place] = self.block.pictures[place - 1]
        return self.block

    def _feed(self, place: int) -> None:
        counted = place >= self.lead
        thumb = None
        if self.settings.gate.enabled:
            answer = self._gate.decide(self.pictures[place], self.settings.gate, self.settings.version)
            if answer.skip:
                self.block.skipped.add(place)
                self.block.skipped_tile = max(self.block.skipped_tile, answer.scores.tile)
                self.block.verdicts["skipped"] += counted
                return
            thumb = answer.thumb
        self._take(self._step(Frame(place, 0.0, self.pictures[place], thumb)), counted)
        if any(residual.age for residual in self._state.residuals.values()):
            self.block.dropped_rows.add(place)

    def _step(self, frame: Frame | None) -> Output:
        return self.pipeline.step([Entry(self._state, frame, self.settings)])[0]

    def _take(self, output: Output, counted: bool) -> None:
        if counted:
            self.block.verdicts[output.verdict] += 1
            for stage, values in self.block.stages.items():
                values.append(getattr(output.timings, stage))
        if output.verdict == "cached":
            self.block.cached.add(output.frame_id)
        if output.pixels is not None:
            self.block.pictures[output.frame_id] = output.pixels.numpy()


@dataclass(slots=True)
class Closeness:
    """Quality of the frames that a technique changed, over several blocks."""

    ssim: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    flicker: list[float] = field(default_factory=list)

    def add(self, block: Block, reference: Block, touched: Iterable[int]) -> None:
        """Compare the pictures at these indices with the reference's."""
        for place in sorted(touched):
            if place not in block.pictures or place not in reference.pictures:
                continue
            self.ssim.append(quality.ssim(block.pictures[place], reference.pictures[place]))
            self.psnr.append(quality.psnr(block.pictures[place], reference.pictures[place]))

    def add_flicker(self, block: Block, sources: Sequence[Pixels], places: Iterable[int]) -> None:
        """Add the flicker of each index whose predecessor has a picture, where the input did not move."""
        for place in places:
            if place in block.pictures and place - 1 in block.pictures:
                now, before = block.pictures[place], block.pictures[place - 1]
                value = quality.flicker(now, before, sources[place], sources[place - 1])
                if value is not None:
                    self.flicker.append(value)

    def summary(self) -> dict[str, Any]:
        pooled = pooled_psnr(self.psnr)
        return {
            "touched": len(self.ssim),
            "ssim_mean": round(fmean(self.ssim), 4) if self.ssim else None,
            "ssim_p05": round(percentile(self.ssim, 0.05), 4) if self.ssim else None,
            "psnr_db": round(pooled, 2) if pooled is not None else None,
            "flicker": round(fmean(self.flicker), 3) if self.flicker else None,
        }
