"""Measures the engine alone: generated frames per second of each backend in one run, the UNet's time over its FLOPs at the rate
of a matrix product (benchmarks/unet_rate.py), start to first frame, peak memory; and the starts of the commands
(benchmarks/startup.py).

Backends take turns in short blocks on the same frames, so other work on the machine affects all of them. Results are medians over
blocks.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import clips, machine, startup, unet_rate
from pipelines import Entry, Frame, Settings, StreamPipeline, StreamSpec, load, media
from studio.environment import cache_dir

ROOT = Path(__file__).resolve().parents[1]
BLOCK = 24


class Lane:
    """One backend with its own session, and its figures by block."""

    def __init__(self, spec: StreamSpec, settings: Settings) -> None:
        self.pipeline: StreamPipeline = load(spec, cache_dir())
        self.pipeline.prepare(settings)
        self.settings = settings
        self.state = self.pipeline.open(settings)
        self.fps: list[float] = []
        self.stages: dict[str, list[float]] = {"encode": [], "denoise": [], "decode": []}
        self._next = 0

    def block(self, pictures: list[Any], count: int, keep: bool) -> None:
        start = time.perf_counter()
        for index in range(count):
            frame = Frame(self._next, 0.0, pictures[index % len(pictures)])
            self._next += 1
            (answer,) = self.pipeline.step([Entry(self.state, frame, self.settings)])
            if keep:
                for stage, values in self.stages.items():
                    values.append(getattr(answer.timings, stage))
        if keep:
            self.fps.append(count / (time.perf_counter() - start))


def throughput(size: int, blocks: int) -> dict[str, Any]:
    """fps and stage medians of openvino and of eager bf16 channels-last, one step, strength 0.5; their ratio block by block."""
    settings = Settings()
    pictures = list(clips.clip("handheld", size, size, frames=BLOCK))
    lanes = {
        "openvino": Lane(StreamSpec(width=size, height=size, backend="openvino"), settings),
        "eager": Lane(StreamSpec(width=size, height=size, backend="eager", dtype="bfloat16"), settings),
    }
    for index in range(blocks + 1):
        for lane in lanes.values():
            lane.block(pictures, BLOCK, keep=index > 0)
    unet = unet_rate.measure(lanes["openvino"].pipeline)
    print(f"  UNet {unet['unet_ms']} ms, {unet['unet_over_gemm']} times its FLOPs at the rate of a matrix product", flush=True)
    ratios = [a / b for a, b in zip(lanes["openvino"].fps, lanes["eager"].fps, strict=True)]
    return {
        "size": size,
        "blocks": blocks,
        "frames_per_block": BLOCK,
        "ratio_openvino_to_eager": round(median(ratios), 3),
        **unet,
        "lanes": {
            name: {
                "dtype": lane.pipeline.spec.dtype,
                "generated_fps_median": round(median(lane.fps), 2),
                "generated_fps_blocks": [round(value, 2) for value in lane.fps],
                "stage_ms": {stage: round(median(values), 2) for stage, values in lane.stages.items()},
            }
            for name, lane in lanes.items()
        },
    }


def start_up(repeats: int) -> dict[str, Any]:
    """`app.py render` on one picture (start to the first frame written, graphs cached) and on a clip (peak memory)."""
    with tempfile.TemporaryDirectory() as folder:
        picture, film = Path(folder) / "in.png", Path(folder) / "in.mp4"
        clip = clips.clip("handheld", 512, 512, frames=100)
        for path in (picture, film):
            writer = media.open_writer(path, clip.fps, 512, 512)
            for index in range(1 if path is picture else len(clip)):
                writer.write(clip[index])
            writer.close()
        _render(picture, Path(folder) / "warm.png")  # caches the graphs
        seconds = [_render(picture, Path(folder) / "out.png")[0] for _ in range(repeats)]
        peak = _render(film, Path(folder) / "out.mp4")[1]
    return {
        "first_frame_s": round(median(seconds), 2),
        "first_frame_runs": [round(s, 2) for s in seconds],
        "peak_rss_mib": round(peak),
    }


def _render(source: Path, target: Path) -> tuple[float, float]:
    """(seconds, peak resident MiB) of one `app.py render`."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "app.py", "render", str(source), str(target)], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"app.py render failed with {child.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--blocks", type=int, default=7, help="measured blocks of 24 frames per backend")
    parser.add_argument("--starts", type=int, default=3, help="measured starts of each command")
    parser.add_argument("--start-up", action="store_true", help="measure the starts of commands alone (benchmarks/startup.py)")


def main(args: argparse.Namespace) -> dict[str, Any]:
    about = machine.describe()
    if args.start_up:
        return {"machine": about, "start_up": startup.start_up(args.starts)}
    return {
        "machine": about,
        **throughput(args.size, args.blocks),
        "render": start_up(args.starts),
        "start_up": startup.start_up(args.starts),
    }
