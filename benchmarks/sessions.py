"""Measures many sessions on one device: frames in sum, the slowest session's share, and latency.

Three parts. *Owner*: cameras of `--rate` pictures a second pass frames to the model's owner, without codec and socket; the
newest frame replaces a waiting one. Two policies (the scheduler, and a step for all who wait) and the numbers of sessions take
turns in blocks. *Socket*: the whole studio, `app.py serve` in a separate process, with clients on the same machine. *Neighbour*:
the same with one visitor with one step beside one with four steps and full guidance, each as a share of its rate alone; with
clients that keep their pace, and with clients that have one frame in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks import clips, machine
from benchmarks.live import studio
from benchmarks.measure import add_model_arguments, positive, ratios, rounded_median
from pipelines import Frame, Mask, PictureStyle, Pixels, Settings, StreamPipeline, StreamSpec, StyleNames, load
from studio.client import StudioClient
from studio.environment import cache_dir
from studio.model.jobs import Job, JobResult
from studio.model.owner import Owner
from studio.model.scheduler import Part, Policy, Scheduler
from studio.stream.telemetry import percentile

FRAMES = 24
EACH = 8
MOST_S = 40.0
START_S = 120.0
SETTLE_S = 10.0
LIGHT: Mapping[str, object] = {"steps": 1}
HEAVY: Mapping[str, object] = {"steps": 4, "guidance": 1.5, "guidance_mode": "full"}
WARM_S = 2.0
"""Warm-up in which the scheduler learns the cost of steps."""


class StepForAll(Scheduler):
    """A policy: all waiting sessions share one step, up to the largest batch."""

    def __init__(self) -> None:
        super().__init__(Policy(part=math.inf))

    def _fill(self, order: Sequence[Part]) -> Sequence[Part]:
        return order[: self.policy.widest]


POLICIES: dict[str, Callable[[], Scheduler]] = {"scheduler": Scheduler, "everybody": StepForAll}


class SharedPipeline:
    """A pipeline that its owner does not close, because other blocks use it too."""

    def __init__(self, pipeline: StreamPipeline) -> None:
        self._pipeline = pipeline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    def close(self) -> None:
        pass


@dataclass(slots=True)
class Camera:
    """One session's settings and its answers: (time, milliseconds since the frame's capture)."""

    name: str
    settings: Settings
    mask: Mask | None = None
    picture: Pixels | PictureStyle | None = None
    picture_b: Pixels | PictureStyle | None = None
    names: StyleNames = StyleNames()  # noqa: RUF009 - immutable
    answers: list[tuple[float, float]] = field(default_factory=list)

    def done(self, taken_at: float, result: JobResult) -> None:
        if result.output is not None and result.output.pixels is not None:
            result.output.pixels.numpy()
            now = time.perf_counter()
            self.answers.append((now, (now - taken_at) * 1000))


@dataclass(frozen=True, slots=True)
class Block:
    """Results of several sessions over some seconds: pictures of each, and all latencies in ms."""

    seconds: float
    counts: list[int]
    latencies: list[float]
    sessions_per_step: float = 0.0

    @property
    def rate(self) -> float:
        return sum(self.counts) / self.seconds

    @property
    def slowest(self) -> float:
        """The slowest session's pictures as a share of the mean."""
        return min(self.counts) * len(self.counts) / max(1, sum(self.counts))


def run_cameras(
    pipeline: StreamPipeline, policy: str, sessions: int, pictures: Sequence[Pixels], rate: float, seconds: float
) -> Block:
    """Run cameras on a new owner, evenly out of phase, for `seconds`, or longer if needed for EACH pictures of each."""
    looks = pipeline.info.prompts or (Settings().prompt,)
    cameras = [
        Camera(f"s{index}", Settings().patched({"prompt": looks[index % len(looks)], "seed": index})) for index in range(sessions)
    ]
    owner = Owner(lambda: SharedPipeline(pipeline), make_scheduler=POLICIES[policy])  # type: ignore[arg-type,return-value]
    steps: list[tuple[float, int]] = []
    owner.on_step = lambda count: steps.append((time.perf_counter(), count))
    stop = threading.Event()

    def shoot() -> None:
        start, count = time.perf_counter(), 0
        while not stop.is_set():
            index = count % sessions
            now = time.perf_counter()
            frame = Frame(count, now, pictures[(count // sessions + 3 * index) % len(pictures)])
            owner.offer(Job(cameras[index].name, cameras[index], frame, now, partial(cameras[index].done, now)))
            count += 1
            time.sleep(max(0.0, start + count / (rate * sessions) - time.perf_counter()))

    owner.start()
    owner.loaded.result()
    thread = threading.Thread(target=shoot, daemon=True)
    thread.start()
    time.sleep(WARM_S)
    since, already = time.perf_counter(), sum(len(camera.answers) for camera in cameras)
    while (now := time.perf_counter()) - since < seconds or (
        sum(len(camera.answers) for camera in cameras) - already < EACH * sessions and now - since < MOST_S
    ):
        time.sleep(0.05)
    stop.set()
    thread.join()
    end = time.perf_counter()
    owner.close()
    return block_between(cameras, steps, since, end)


def block_between(cameras: Sequence[Camera], steps: Sequence[tuple[float, int]], since: float, end: float) -> Block:
    """The results between two times."""
    inside = [[ms for at, ms in camera.answers if since <= at <= end] for camera in cameras]
    counts = [count for at, count in steps if since <= at <= end]
    mean = sum(counts) / len(counts) if counts else 0.0
    return Block(end - since, [len(found) for found in inside], [ms for found in inside for ms in found], mean)


async def visit(
    url: str,
    token: str,
    sessions: int,
    pictures: Sequence[Pixels],
    seconds: float,
    each: Sequence[Mapping[str, object]] = (),
    one_at_a_time: bool = False,
    alone_s: float = 0.0,
) -> Block:
    """Run clients on a running studio, each as fast as its credit allows, or with one frame in flight.

    each: their settings. alone_s: delay between the first client and the others. Counting starts when all have a picture.
    """
    latencies: list[list[float]] = [[] for _ in range(sessions)]
    seen, counted = [asyncio.Event() for _ in range(sessions)], asyncio.Event()

    async def one(index: int) -> None:
        settings = {"seed": index} | dict(each[index] if each else {})
        answered = asyncio.Event()
        await asyncio.sleep(alone_s if index else 0.0)
        async with StudioClient(url, token=token, settings=settings) as client:
            if client.welcome["model"]["prompts"]:
                looks = client.welcome["model"]["prompts"]
                await client.patch({"prompt": looks[index % len(looks)]})

            async def send() -> None:
                count = 3 * index
                while True:
                    answered.clear()
                    await client.frame(pictures[count % len(pictures)])
                    if one_at_a_time:
                        await answered.wait()
                    count += 1

            sending = asyncio.create_task(send())
            try:
                while True:
                    shown = await client.shown()
                    answered.set()
                    if shown.pixels is not None:
                        seen[index].set()
                        if counted.is_set():
                            latencies[index].append(shown.latency_ms)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def measure() -> list[list[float]]:
        for event in seen:
            await event.wait()
        await asyncio.sleep(WARM_S)
        counted.set()
        await asyncio.sleep(seconds)
        return [list(values) for values in latencies]

    measuring = asyncio.create_task(measure())
    visitors = [asyncio.create_task(one(index)) for index in range(sessions)]
    try:
        done, _ = await asyncio.wait([measuring, *visitors], return_when=asyncio.FIRST_COMPLETED, timeout=START_S + alone_s)
        for task in done:
            task.result()  # raises if a client has failed
        found = measuring.result()
    finally:
        for task in (measuring, *visitors):
            task.cancel()
        await asyncio.gather(measuring, *visitors, return_exceptions=True)
    return Block(seconds, [len(values) for values in found], [ms for values in found for ms in values])


def summary(blocks: Sequence[Block], alone: Sequence[Block]) -> dict[str, Any]:
    """Medians over blocks; ratios to one session's are formed by block."""
    return {
        "frames_per_s": rounded_median([block.rate for block in blocks], 2),
        "ratio_to_one": rounded_median(ratios([block.rate for block in blocks], [block.rate for block in alone])),
        "slowest_share_of_mean": rounded_median([block.slowest for block in blocks]),
        "latency_p50_ms": rounded_median([percentile(block.latencies, 0.5) for block in blocks], 1),
        "latency_p95_ms": rounded_median([percentile(block.latencies, 0.95) for block in blocks], 1),
        "p95_ratio_to_one": rounded_median(
            ratios(
                [percentile(block.latencies, 0.95) for block in blocks], [percentile(block.latencies, 0.95) for block in alone]
            )
        ),
        "sessions_per_step": rounded_median([block.sessions_per_step for block in blocks], 2),
    }


def through_owner(args: argparse.Namespace, pictures: Sequence[Pixels]) -> dict[str, Any]:
    pipeline = load(StreamSpec(args.model, args.size, args.size, args.backend, args.dtype), cache_dir())
    for count in args.sessions:
        pipeline.prepare(Settings(), count)
    blocks: dict[tuple[str, int], list[Block]] = {(policy, count): [] for count in args.sessions for policy in POLICIES}
    for _ in range(args.blocks):
        for policy, count in blocks:
            blocks[policy, count].append(run_cameras(pipeline, policy, count, pictures, args.rate, args.seconds))
    pipeline.close()
    first = args.sessions[0]
    cells = {key: summary(found, blocks[key[0], first]) for key, found in blocks.items()}
    found = {policy: {str(count): cells[policy, count] for count in args.sessions} for policy in POLICIES}
    return {"backend": pipeline.spec.backend, "dtype": pipeline.spec.dtype, **found}


def through_socket(args: argparse.Namespace, pictures: Sequence[Pixels]) -> dict[str, Any]:
    token = secrets.token_urlsafe(24)
    options = ["--model", args.model, "--size", str(args.size), "--backend", args.backend, "--dtype", args.dtype]
    blocks: dict[int, list[Block]] = {count: [] for count in args.socket}
    with studio([*options, "--max-sessions", "64"], token) as server:
        asyncio.run(visit(server.url, token, max(args.socket), pictures, SETTLE_S))  # graphs for more rows are built meanwhile
        for _ in range(args.blocks):
            for count in args.socket:
                blocks[count].append(asyncio.run(visit(server.url, token, count, pictures, args.seconds)))
    return {str(count): summary(found, blocks[args.socket[0]]) for count, found in blocks.items()}


def through_neighbour(args: argparse.Namespace, pictures: Sequence[Pixels]) -> dict[str, Any]:
    """The shares of a light visitor and a heavy one beside each other, relative to their rates alone in the same round."""
    token = secrets.token_urlsafe(24)
    options = ["--model", args.model, "--size", str(args.size), "--backend", args.backend, "--dtype", args.dtype]
    options += ["--set", "cache.enabled=false"]
    found: dict[str, Any] = {}
    with studio(options, token) as server:

        def rates(one_at_a_time: bool, *each: Mapping[str, object]) -> list[float]:
            block = asyncio.run(visit(server.url, token, len(each), pictures, args.seconds, each, one_at_a_time))
            return [count / block.seconds for count in block.counts]

        asyncio.run(visit(server.url, token, 2, pictures, SETTLE_S, (LIGHT, HEAVY)))  # graphs are built meanwhile
        for name, one_at_a_time in (("paced", False), ("one frame under way", True)):
            light: list[float] = []
            heavy: list[float] = []
            both: list[list[float]] = []
            for _ in range(args.blocks):
                light += rates(one_at_a_time, LIGHT)
                heavy += rates(one_at_a_time, HEAVY)
                both.append(rates(one_at_a_time, LIGHT, HEAVY))
            found[name] = {
                "light_alone": rounded_median(light, 2),
                "heavy_alone": rounded_median(heavy, 2),
                "light_share": rounded_median(ratios([pair[0] for pair in both], light)),
                "heavy_share": rounded_median(ratios([pair[1] for pair in both], heavy)),
            }
    return found


def shares(found: dict[str, Any]) -> str:
    lines = ["", "a light visitor beside a heavy one: share of the rate alone"]
    for name, f in found.items():
        lines.append(
            f"  {name:<20} light {f['light_share']:.2f} of {f['light_alone']} frames/s   heavy {f['heavy_share']:.2f} of "
            f"{f['heavy_alone']}"
        )
    return "\n".join(lines)


def table(name: str, found: dict[str, Any]) -> str:
    lines = ["", name]
    for count, f in found.items():
        lines.append(
            f"  {count:>2} session(s) {f['frames_per_s']:>8} frames/s {f['ratio_to_one']:>6}×   slowest "
            f"{f['slowest_share_of_mean'] * 100:.0f}% of the mean   p50 {f['latency_p50_ms']:>6} p95 {f['latency_p95_ms']:>6} ms"
        )
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--sessions", type=positive, nargs="*", default=[1, 4, 16, 32], help="on the model's owner")
    parser.add_argument("--socket", type=positive, nargs="*", default=[1, 4], help="numbers of clients on the whole studio")
    parser.add_argument("--neighbour", action=argparse.BooleanOptionalAction, default=True, help="the third part")
    parser.add_argument("--rate", type=float, default=60.0, help="pictures a second of each camera")
    parser.add_argument("--blocks", type=positive, default=2, help="measured blocks per cell")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one block")
    add_model_arguments(parser)


def main(args: argparse.Namespace) -> dict[str, Any]:
    about = machine.describe()
    pictures = list(clips.clip("handheld", args.size, args.size, frames=FRAMES))
    found = {"machine": about, "model": args.model, "size": args.size, "camera_rate": args.rate, "blocks": args.blocks}
    found |= {"seconds": args.seconds}
    if args.sessions:
        found["owner"] = through_owner(args, pictures)
        for policy in POLICIES:
            print(table(f"owner, {policy}", found["owner"][policy]), flush=True)
    if args.socket:
        found["socket"] = through_socket(args, pictures)
        print(table("whole studio over its socket", found["socket"]), flush=True)
    if args.neighbour:
        found["neighbour"] = through_neighbour(args, pictures)
        print(shares(found["neighbour"]), flush=True)
    return found
