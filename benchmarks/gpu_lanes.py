"""The measurements of `bench --gpu`: sessions through a pipeline, and the UNet's graphs alone. Pictures are fetched a step
late."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch

from benchmarks.measure import MODEL_STAGES, percentile, ratios, rounded_median
from pipelines import Entry, Frame, Picture, Pixels, Settings, StreamPipeline, quality
from pipelines.graphs.keys import GraphKey

PROMPT = "oil painting"
MIN_STEPS = 4
PICTURES = 8


class Lane:
    """Sessions of one kind, stepped together. With pictures image to image, without them text to image."""

    def __init__(self, pipeline: StreamPipeline, sessions: int, patch: dict[str, Any], pictures: bool = True) -> None:
        base = {"prompt": PROMPT, "guidance_mode": "none", "stream_batch.enabled": True}
        self.pipeline, self.sessions = pipeline, sessions
        self.settings = [Settings().patched({**base, "seed": index, **patch}) for index in range(sessions)]
        pipeline.prepare(self.settings[0], sessions)
        self.states = [pipeline.open(settings) for settings in self.settings]
        self.rates: list[float] = []  # frames/s of all sessions together, by block
        self.latency_ms: list[float] = []  # from passing a frame to the engine until its pixels are in host memory
        self.stages: dict[str, float] = {}  # means of the last block, on a GPU by the device's clock
        shape = (PICTURES, pipeline.spec.height, pipeline.spec.width, 3)
        self._pictures = np.random.default_rng(0).integers(0, 256, shape, np.uint8) if pictures else None
        self._next = 0

    def block(self, seconds: float, keep: bool) -> None:
        """Step for about `seconds`. keep: record the figures; False for a warm-up."""
        launched: deque[tuple[dict[int, float], list[tuple[int, Picture]]]] = deque()
        began: dict[int, float] = {}
        spent: dict[str, list[float]] = {stage: [] for stage in MODEL_STAGES}
        answered, done, start = 0, 0, time.perf_counter()
        while done < MIN_STEPS or time.perf_counter() - start < seconds:
            launched.append(self._step(began, spent))
            done += 1
            if len(launched) > 1:
                answered += self._fetch(launched.popleft(), keep)
        while launched:
            answered += self._fetch(launched.popleft(), keep)
        if keep:
            self.rates.append(answered / (time.perf_counter() - start))
            self.stages = {stage: fmean(values) for stage, values in spent.items()}

    def summary(self, base: Lane | None = None) -> dict[str, Any]:
        """Rates, latency and stages; with `base` also the ratio of the rates, by block."""
        found: dict[str, Any] = {"frames_per_s": rounded_median(self.rates, 2)}
        found["latency_ms"] = {f"p{share}": round(percentile(self.latency_ms, share / 100), 2) for share in (50, 95)}
        found["stage_ms"] = {stage: round(value, 3) for stage, value in self.stages.items()}
        if base is not None:
            found["ratio"] = rounded_median(ratios(self.rates, base.rates))
        return found

    def _step(self, began: dict[int, float], spent: dict[str, list[float]]) -> tuple[dict[int, float], list[tuple[int, Picture]]]:
        """Launch one step. Returns its finished pictures by frame."""
        began[self._next] = time.perf_counter()
        entries = []
        for index, (state, settings) in enumerate(zip(self.states, self.settings, strict=True)):
            pixels = None if self._pictures is None else self._pictures[(self._next + index) % PICTURES]
            entries.append(Entry(state, Frame(self._next, 0.0, pixels), settings))
        self._next += 1
        outputs = self.pipeline.step(entries)
        for stage, values in spent.items():
            values.append(getattr(outputs[0].timings, stage))
        return began, [(output.frame_id, output.pixels) for output in outputs if output.pixels is not None]

    def _fetch(self, launched: tuple[dict[int, float], list[tuple[int, Picture]]], keep: bool) -> int:
        began, pictures = launched
        for frame, picture in pictures:
            picture.numpy()
            if keep and frame in began:
                self.latency_ms.append((time.perf_counter() - began[frame]) * 1000)
        return len(pictures)


def take_turns(lanes: Sequence[Lane], blocks: int, seconds: float) -> None:
    """Run blocks of all lanes in turn, after a warm-up block."""
    for index in range(blocks + 1):
        for lane in lanes:
            lane.block(seconds if index else 0.0, keep=index > 0)


@torch.inference_mode()
def unet_times(pipeline: StreamPipeline, most: int, repeats: int) -> dict[str, float]:
    """Milliseconds of the UNet's full pass at each bucket up to `most` rows, including the wait for the device."""
    graphs, found = pipeline.graphs, {}
    on_gpu = graphs.backend.device.type == "cuda"
    for size in (size for size in graphs.backend.layout.buckets if size <= most):
        key = GraphKey("full", size)
        graphs.build(key)
        inputs = tuple(value.to(graphs.backend.device) for value in graphs._example(key))
        times = []
        for _ in range(repeats + 2):
            if on_gpu:
                torch.cuda.synchronize()
            start = time.perf_counter()
            graphs.run("full", inputs)
            if on_gpu:
                torch.cuda.synchronize()
            times.append((time.perf_counter() - start) * 1000)
        found[str(size)] = round(sorted(times)[len(times) // 2], 3)
    return found


def per_call(times: dict[str, float]) -> float | None:
    """The fixed cost of a call, in rows: c₀/c₁ of the line c₀ + c₁·rows through the times; for pipelines/graphs/layout.py."""
    if len(times) < 2:
        return None
    slope, offset = np.polyfit([int(size) for size in times], list(times.values()), 1)
    return round(float(offset / slope), 2) if slope > 1e-6 * offset else None


def picture(pipeline: StreamPipeline) -> Pixels:
    """One picture of a pipeline, always of the same frame and settings."""
    settings = Settings().patched({"prompt": PROMPT, "guidance_mode": "none"})
    shape = (pipeline.spec.height, pipeline.spec.width)
    ramp = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % 256
    frame = Frame(0, 0.0, np.stack([ramp, ramp.T if shape[0] == shape[1] else ramp, 255 - ramp], 2).astype(np.uint8))
    (output,) = pipeline.step([Entry(pipeline.open(settings), frame, settings)])
    assert output.pixels is not None
    return output.pixels.numpy()


def likeness(one: Pixels, other: Pixels) -> float:
    """SSIM of two pictures. Random weights react to a difference unlike trained ones, so it shows gross errors only."""
    return round(quality.ssim(one, other), 4)
