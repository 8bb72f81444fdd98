"""Measures the picture at rest (`refine.enabled`) on a running server: how soon it is as good as four steps, and whether movement
is answered later for it.

A client sends a moving clip at 30 frames per second, then one picture of it over and over with a camera's noise, then the moving
clip again. Long rests show how the picture gets better: seconds from the first frame at rest until the shown picture has an SSIM
of 0.97 to that of four live steps, which a pipeline of this process draws. Short rests end in the middle of a refinement. The
time to the first picture of movement is measured after both, with refinement and without it, in turns on one server. It runs
from the moment when the client sends the first moving frame to the moment when its picture, or that of a later one, is decoded.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks import clips, machine
from benchmarks.live import Studio, studio
from benchmarks.measure import add_look_arguments, positive, ratios, rounded_median
from pipelines import Entry, Frame, Pixels, Settings, StreamPipeline, StreamSpec, load, quality
from studio.client import StudioClient
from studio.environment import cache_dir
from studio.pictures import codec
from studio.wire.limits import Limits
from studio.wire.protocol import PictureEncoding

ENCODING = PictureEncoding("jpeg", 95)
FPS = 30.0
LOOKS = ("neon outlines", "oil painting", "charcoal drawing")
RESTS_S = {"long": 1.5, "short": 0.25}
BEFORE_S, AFTER_S = 1.2, 0.8
NOISE = 1.5  # σ, of 255
GOAL = 0.97
STEPS = 4
CANDIDATES = 4
"""The shown picture is of one of so many first frames at rest: those of before were still on their way."""


@dataclass
class Seen:
    """What a client has sent and seen. sources: by id; pictures: (seconds, frame id, picture) as they were decoded; rest, move:
    (seconds, id of the first frame) of the rest and of the movement after it."""

    sources: dict[int, Pixels] = field(default_factory=dict)
    pictures: list[tuple[float, int, Pixels]] = field(default_factory=list)
    rest: tuple[float, int] = (0.0, 0)
    move: tuple[float, int] = (0.0, 0)

    @property
    def at_rest(self) -> list[tuple[float, Pixels]]:
        """Seconds since the rest began, and the picture, of those decoded during it."""
        return [(at - self.rest[0], pixels) for at, _, pixels in self.pictures if self.rest[0] <= at < self.move[0]]

    @property
    def first_moved_s(self) -> float | None:
        """Seconds from the first moving frame after the rest to the first picture of one; None where none came."""
        return next((at - self.move[0] for at, frame, _ in self.pictures if frame >= self.move[1]), None)


async def stream(server: Studio, token: str, settings: dict[str, Any], clip: clips.Clip, start: int, rest_s: float) -> Seen:
    """Moving, at rest, moving. start: index in the clip."""
    seen, noise = Seen(), np.random.default_rng(start)
    still = clip[start]

    def noisy(_: int) -> Pixels:
        return np.clip(still + noise.normal(0, NOISE, still.shape), 0, 255).astype(np.uint8)

    async with StudioClient(server.url, token=token, settings=settings, picture=ENCODING) as client:

        async def read() -> None:
            while True:
                shown = await client.shown()
                if shown.pixels is not None:
                    seen.pictures.append((time.perf_counter(), shown.answer.frame_id, shown.pixels))

        async def send(source: Callable[[int], Pixels], seconds: float) -> tuple[float, int]:
            began, count, first = time.perf_counter(), 0, (0.0, 0)
            while time.perf_counter() - began < seconds or not first[1]:
                if client.room:
                    pixels, now = source(count), time.perf_counter()
                    number = await client.frame(pixels)
                    seen.sources[number] = pixels
                    first = first if first[1] else (now, number)
                count += 1
                await asyncio.sleep(max(0.0, began + count / FPS - time.perf_counter()))
            return first

        reading = asyncio.create_task(read())
        try:
            await send(lambda count: clip[(start - 2 * round(BEFORE_S * FPS) + 2 * count) % len(clip)], BEFORE_S)
            seen.rest = await send(noisy, rest_s)
            seen.move = await send(lambda count: clip[(start + len(clip) // 3 + 2 * count) % len(clip)], AFTER_S)
            await asyncio.sleep(0.3)
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
    return seen


class Reference:
    """Pictures of live steps, as a client would see them."""

    def __init__(self, pipeline: StreamPipeline, strength: float) -> None:
        self._pipeline, self._strength = pipeline, strength

    def __call__(self, look: str, pixels: Pixels, steps: int) -> Pixels:
        patch = {"prompt": look, "strength": self._strength, "steps": steps, "stream_batch.enabled": False}
        settings = Settings().patched(patch)
        self._pipeline.prepare(settings)
        frame = Frame(1, 0.0, coded(pixels))
        (output,) = self._pipeline.step([Entry(self._pipeline.open(settings), frame, settings)])
        assert output.pixels is not None
        return coded(output.pixels.numpy())


def coded(pixels: Pixels) -> Pixels:
    """The picture after the way over the wire."""
    return codec.read(memoryview(codec.encode(pixels, ENCODING)), ENCODING.format, Limits())


def improvement(seen: Seen, look: str, reference: Reference) -> dict[str, Any]:
    """How the picture at rest came close to that of STEPS steps. before: SSIM of one step; trace: (seconds, SSIM)."""
    if not seen.at_rest:
        return {"before": None, "end": None, "goal_s": None, "trace": []}
    final = seen.at_rest[-1][1]
    sources = [seen.sources[number] for number in sorted(seen.sources) if number >= seen.rest[1]][:CANDIDATES]
    goals = [reference(look, source, STEPS) for source in sources]
    place = max(range(len(goals)), key=lambda index: quality.ssim(final, goals[index]))
    trace = [(at, quality.ssim(pixels, goals[place])) for at, pixels in seen.at_rest]
    return {
        "before": round(quality.ssim(reference(look, sources[place], 1), goals[place]), 4),
        "end": round(trace[-1][1], 4),
        "goal_s": next((round(at, 3) for at, ssim in trace if ssim >= GOAL), None),
        "trace": [(round(at, 2), round(ssim, 3)) for at, ssim in trace],
    }


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds; ratios are formed by round."""
    refined = [run for run in runs if run["refine"] and run["rest"] == "long"]
    reached = [run["goal_s"] for run in refined if run["goal_s"] is not None]
    found: dict[str, Any] = {
        "goal": GOAL,
        "reached": f"{len(reached)} of {len(refined)}",
        "goal_s": rounded_median(reached),
        "before": rounded_median([run["before"] for run in refined if run["before"] is not None], 4),
        "end": rounded_median([run["end"] for run in refined if run["end"] is not None], 4),
    }
    for rest in RESTS_S:
        on, off = ([run for run in runs if run["refine"] == refine and run["rest"] == rest] for refine in (True, False))
        pairs = [(a["first_moved_s"], b["first_moved_s"]) for a, b in zip(on, off, strict=True)]
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        found[f"after a {rest} rest"] = {
            "first_moved_s": rounded_median([a for a, _ in known]),
            "without": rounded_median([b for _, b in known]),
            "ratio": rounded_median(ratios([a for a, _ in known], [b for _, b in known])),
            "pairs": len(known),
            "cpu_s": rounded_median([run["cpu_s"] for run in on], 2),
            "cpu_s_without": rounded_median([run["cpu_s"] for run in off], 2),
        }
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_look_arguments(parser, "three")
    parser.add_argument("--rounds", type=positive, default=3, help="of all looks")


def main(args: argparse.Namespace) -> dict[str, Any]:
    about, token = machine.describe(), secrets.token_urlsafe(24)
    clip = clips.clip("handheld", args.size, args.size)
    options = ["--model", args.model, "--size", str(args.size), "--backend", args.backend, "--dtype", args.dtype]
    spec = StreamSpec(args.model, args.size, args.size, args.backend, args.dtype)
    reference, runs = Reference(load(spec, cache_dir()), args.strength), []
    with studio(options, token) as server:
        for number in range(args.rounds):
            for look in args.prompts or LOOKS:
                for rest, seconds in RESTS_S.items():
                    for refine in (False, True) if number % 2 else (True, False):
                        settings = {"prompt": look, "strength": args.strength, "gate.enabled": True, "refine.enabled": refine}
                        before, start = server.cpu_s(), 80 + 37 * number % 100
                        seen = asyncio.run(stream(server, token, settings, clip, start, seconds))
                        run = {"look": look, "rest": rest, "refine": refine, "cpu_s": round(server.cpu_s() - before, 2)}
                        run["first_moved_s"] = None if seen.first_moved_s is None else round(seen.first_moved_s, 3)
                        if rest == "long":
                            run |= improvement(seen, look, reference)
                        runs.append(run)
                        print(run, flush=True)
    result = summary(runs)
    print(result, flush=True)
    return {"machine": about, "model": args.model, "size": args.size, "strength": args.strength, **result, "runs": runs}
