"""Measures how the engine scales: sessions in one step, picture sizes, and steps with and without the stream batch.

Cells of one size take turns in blocks of about a second on the same frames. Results are medians over blocks; ratios are formed by
block.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks import clips, machine
from benchmarks.measure import add_model_arguments, positive, ratios, rounded_median
from pipelines import Entry, Frame, Pixels, Settings, StreamPipeline, StreamSpec, load
from studio.environment import cache_dir

FRAMES = 24
MIN_STEPS = 2


class Cell:
    """Sessions of one kind that are stepped together. Each has its own look and its own position in the clip."""

    def __init__(self, pipeline: StreamPipeline, sessions: int, patch: dict[str, object]) -> None:
        self.pipeline, self.sessions = pipeline, sessions
        looks = pipeline.info.prompts or (Settings().prompt,)
        self.settings = [Settings().patched({"prompt": looks[i % len(looks)], "seed": i, **patch}) for i in range(sessions)]
        pipeline.prepare(self.settings[0], sessions)
        self.states = [pipeline.open(settings) for settings in self.settings]
        self.rates: list[float] = []  # frames/s of all sessions together
        self.slowest: list[float] = []
        self._next = 0
        self._answered: Counter[int] = Counter()

    def block(self, pictures: Sequence[Pixels], seconds: float, keep: bool) -> None:
        """Step for about `seconds`, at least twice. keep: record the figures; False for a warm-up that fills the stream batch."""
        self._answered.clear()
        start, done = time.perf_counter(), 0
        while done < MIN_STEPS + (0 if keep else self.settings[0].steps) or time.perf_counter() - start < seconds:
            self._step(pictures)
            done += 1
        elapsed = time.perf_counter() - start
        if keep:
            self.rates.append(sum(self._answered.values()) / elapsed)
            self.slowest.append(slowest_share([self._answered[i] for i in range(self.sessions)]))

    def _step(self, pictures: Sequence[Pixels]) -> None:
        entries = []
        for index, (state, settings) in enumerate(zip(self.states, self.settings, strict=True)):
            frame = Frame(self._next, 0.0, pictures[(self._next + 3 * index) % len(pictures)])
            entries.append(Entry(state, frame, settings))
        self._next += 1
        for index, output in enumerate(self.pipeline.step(entries)):
            if output.pixels is not None:
                output.pixels.numpy()
                self._answered[index] += 1


def slowest_share(counts: Sequence[int]) -> float:
    """Frames of the slowest session relative to an even split, 0..1; 0 if there are no frames."""
    total = sum(counts)
    return min(counts) * len(counts) / total if total else 0.0


def take_turns(cells: Sequence[Cell], pictures: Sequence[Pixels], blocks: int, seconds: float) -> None:
    for index in range(blocks + 1):
        for cell in cells:
            cell.block(pictures, seconds if index else 0.0, keep=index > 0)


def measure(args: argparse.Namespace, size: int) -> dict[str, Any]:
    """Results of one size: sessions at one step; one session at 1-4 steps, sequential and batched."""
    pipeline = load(StreamSpec(args.model, size, size, args.backend, args.dtype, max_steps=max(4, *args.steps)), cache_dir())
    pictures = list(clips.clip("handheld", size, size, frames=FRAMES))
    sessions = {count: Cell(pipeline, count, {"steps": 1}) for count in args.sessions}
    off = {steps: Cell(pipeline, 1, {"steps": steps, "stream_batch.enabled": False}) for steps in args.steps}
    on = {steps: Cell(pipeline, 1, {"steps": steps}) for steps in args.steps if steps > 1}
    take_turns([*sessions.values(), *off.values(), *on.values()], pictures, args.blocks, args.seconds)
    pipeline.close()
    return {"backend": pipeline.spec.backend, "dtype": pipeline.spec.dtype, **summary(sessions, off, on)}


def summary(sessions: dict[int, Cell], off: dict[int, Cell], on: dict[int, Cell]) -> dict[str, Any]:
    alone = next(iter(sessions.values())).rates
    return {
        "sessions": {
            str(count): {
                "frames_per_s": rounded_median(cell.rates, 2),
                "ratio_to_first": rounded_median(ratios(cell.rates, alone)),
                "slowest_share": rounded_median(cell.slowest),
            }
            for count, cell in sessions.items()
        },
        "steps": {
            str(steps): {
                "sequential_fps": rounded_median(cell.rates, 2),
                "batch_fps": rounded_median(on[steps].rates, 2) if steps in on else None,
                "batch_ratio": rounded_median(ratios(on[steps].rates, cell.rates)) if steps in on else None,
            }
            for steps, cell in off.items()
        },
    }


def table(sizes: dict[str, Any]) -> str:
    lines = []
    for size, found in sizes.items():
        lines += ["", f"{size}×{size}, {found['backend']} {found['dtype']}"]
        for count, f in found["sessions"].items():
            share = f"slowest {f['slowest_share'] * 100:.0f}% of an even share"
            lines.append(f"  {count:>2} session(s)  {f['frames_per_s']:>8} frames/s  {f['ratio_to_first']:>6}×   {share}")
        for steps, f in found["steps"].items():
            batch = f"batch {f['batch_fps']:>8}  {f['batch_ratio']:>6}×" if f["batch_fps"] is not None else ""
            lines.append(f"  {steps:>2} step(s)     {f['sequential_fps']:>8} fps in sequence   {batch}")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, nargs="+", default=[256, 384, 512, 768])
    parser.add_argument("--sessions", type=positive, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--steps", type=positive, nargs="+", default=[1, 2, 3, 4], help="with one session")
    parser.add_argument("--blocks", type=positive, default=3, help="measured blocks per cell")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one block")
    add_model_arguments(parser)


def main(args: argparse.Namespace) -> dict[str, Any]:
    about = machine.describe()
    sizes: dict[str, Any] = {}
    for size in args.size:
        sizes[str(size)] = measure(args, size)
        print(table({str(size): sizes[str(size)]}), flush=True)
    return {"machine": about, "model": args.model, "blocks": args.blocks, "seconds": args.seconds, "sizes": sizes}
