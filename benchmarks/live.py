"""Measures the whole studio over its socket.

It compares the Python client with `app.py render` on the same clip, measures the gate's saving including the transport, and
checks whether the server's memory grows. The server is a separate process on a free loopback port. Client and render take turns
on the same machine; ratios are formed by round. CPU seconds are those of the server's process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import queue
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks import clips, machine
from benchmarks.measure import positive, ratios, rounded_median
from pipelines import Pixels, StreamSpec, media
from studio.client import StudioClient

ROOT = Path(__file__).resolve().parents[1]
START_S = 300.0
FIRST_MINUTE_S = 60.0
WINDOW_S = 10.0
MIB = 2**20


class Studio:
    """`app.py serve` in a separate process. `url`: its address when it listens. Raises RuntimeError if it does not start."""

    def __init__(self, options: Sequence[str], token: str) -> None:
        command = [sys.executable, "app.py", "serve", "--port", "0", *options]
        self._child = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment(token)
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()
        try:
            self.url = self._wait(r"listening on (\S+)")
            self._wait(r"Model .* is (ready)")
        except BaseException:
            self.stop()
            raise
        self.process = psutil.Process(self._child.pid)

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss(self) -> int:
        return int(self.process.memory_info().rss)

    def new_lines(self) -> list[str]:
        """The lines that it has written since the last call."""
        found = []
        with contextlib.suppress(queue.Empty):
            while (line := self._lines.get_nowait()) is not None:
                found.append(line.rstrip())
        return found

    def stop(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._reader.join(5)

    def _drain(self) -> None:
        assert self._child.stdout is not None
        with self._child.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def _wait(self, pattern: str) -> str:
        until, seen = time.monotonic() + START_S, ""
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise RuntimeError(f"app.py serve did not come up in {START_S:.0f} s:\n{seen}") from None
            if line is None:
                raise RuntimeError(f"app.py serve ended:\n{seen}")
            seen += line
            if "cannot be loaded" in line:  # the server itself continues, with an error page
                raise RuntimeError(f"app.py serve: {line.strip()}")
            if (found := re.search(pattern, line)) is not None:
                return found.group(1)


@contextlib.contextmanager
def studio(options: Sequence[str], token: str) -> Iterator[Studio]:
    running = Studio(options, token)
    try:
        yield running
    finally:
        running.stop()


class Rounds:
    """Runs clients and renders as separate processes, and reads the JSON at the end of their output."""

    def __init__(self, server: Studio, options: Sequence[str], token: str, folder: Path) -> None:
        self.server, self.options, self.token, self.folder = server, options, token, folder

    def client(self, clip: Path, *settings: str) -> dict[str, Any]:
        """The JSON of a client, and `cpu_s`, the server's processor time for it."""
        before = self.server.cpu_s()
        command = ["-m", "studio.client", self.server.url, str(clip), str(self.folder / "client.mp4"), "--pace", "max"]
        found = self._run([*command, *(part for setting in settings for part in ("--set", setting))])
        return {**found, "cpu_s": self.server.cpu_s() - before}

    def render(self, clip: Path) -> dict[str, Any]:
        return self._run(["app.py", "render", str(clip), str(self.folder / "render.mp4"), *self.options])

    def _run(self, arguments: Sequence[str]) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=_environment(self.token), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} failed with {done.returncode}: {done.stderr.strip()[-2000:]}")
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _environment(token: str) -> dict[str, str]:
    return {**os.environ, "RILL_TOKEN": token, "GRADIO_ANALYTICS_ENABLED": "False"}


def rates(clients: Sequence[dict[str, Any]], renders: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The ratio of the client's rate to render's, by round; frames generated by both."""
    outside = [run["latency_ms"]["outside"] for run in clients if run["latency_ms"].get("outside") is not None]
    ours, theirs = [run["generated_fps"] for run in clients], [run["generated_fps"] for run in renders]
    return {
        "ratio_client_to_render": rounded_median(ratios(ours, theirs)),
        "client_generated_fps": ours,
        "render_generated_fps": theirs,
        "outside_model_ms": rounded_median(outside, 2),
        "latency_p50_ms": rounded_median([run["latency_ms"]["p50"] for run in clients], 2),
        "latency_p95_ms": rounded_median([run["latency_ms"]["p95"] for run in clients], 2),
        "dropped": sum(run["dropped"] for run in clients),
        "client_stage_ms": clients[-1]["stage_ms"],
        "render_stage_ms": renders[-1]["stage_ms"],
    }


def gating(off: Sequence[dict[str, Any]], on: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """CPU seconds of the server for each shown frame, gate on against off, by round."""
    costs = [[run["cpu_s"] / max(1, run["generated"] + run["cached"] + run["skipped"]) for run in runs] for runs in (off, on)]
    return {
        "cpu_ms_per_shown_off": rounded_median([cost * 1000 for cost in costs[0]], 2),
        "cpu_ms_per_shown_on": rounded_median([cost * 1000 for cost in costs[1]], 2),
        "times_less_cpu": rounded_median(ratios(costs[0], costs[1]), 2),
        "skipped_share": rounded_median([run["skipped"] / max(1, run["frames"]) for run in on]),
    }


def growth(samples: Sequence[tuple[float, int]], after_s: float) -> dict[str, Any]:
    """Resident bytes of (seconds, bytes) samples: the median of the ten seconds from `after_s` on, and of the last ten."""
    last = samples[-1][0]
    early = median(size for at, size in samples if after_s <= at <= after_s + WINDOW_S)
    late = median(size for at, size in samples if at >= last - WINDOW_S)
    return {
        "seconds": round(last, 1),
        "first_minute_mib": round(early / MIB, 1),
        "end_mib": round(late / MIB, 1),
        "peak_mib": round(max(size for _, size in samples) / MIB, 1),
        "growth_percent": round((late / early - 1) * 100, 2),
    }


async def stream_on(server: Studio, token: str, pictures: Sequence[Pixels], seconds: float) -> dict[str, Any]:
    """One client sends the pictures repeatedly for `seconds`; the server's memory is sampled every half second."""
    samples: list[tuple[float, int]] = []
    received = 0
    async with StudioClient(server.url, token=token) as client:
        started = time.monotonic()

        async def send() -> None:
            index = 0
            while time.monotonic() - started < seconds:
                await client.frame(pictures[index % len(pictures)])
                index += 1

        async def receive() -> None:
            nonlocal received
            while True:
                received += (await client.shown()).pixels is not None

        async def watch() -> None:
            while True:
                samples.append((time.monotonic() - started, server.rss()))
                await asyncio.sleep(0.5)

        behind = [asyncio.create_task(receive()), asyncio.create_task(watch())]
        sending = asyncio.create_task(send())
        try:
            await asyncio.wait([sending, *behind], return_when=asyncio.FIRST_COMPLETED)
            for task in (*behind, sending):
                if task.done():
                    task.result()
        finally:
            for task in (sending, *behind):
                task.cancel()
            await asyncio.gather(sending, *behind, return_exceptions=True)
    return {**growth(samples, min(FIRST_MINUTE_S, seconds / 2)), "pictures": received}


def write_clip(name: str, size: int, frames: int, folder: Path) -> Path:
    """Write a clip of benchmarks/clips.py to a file; an existing path is returned unchanged. Raises MediaError."""
    if name not in clips.names():
        if not Path(name).is_file():
            raise media.MediaError(f"{name}: no such clip or file")
        return Path(name).resolve()
    clip = clips.clip(name, size, size, frames=frames)
    target = folder / f"{name}.mp4"
    writer = media.open_writer(target, clip.fps, size, size)
    for pixels in clip:
        writer.write(pixels)
    writer.close()
    return target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clip", default="handheld", metavar="NAME|PATH", help="clip of the comparison of client and render")
    parser.add_argument("--frames", type=positive, default=200, help="frames of the generated clips")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--backend", default="auto", choices=StreamSpec.BACKENDS)
    parser.add_argument("--minutes", type=float, default=0.0, help="stream for this time and record the server's memory")


def main(args: argparse.Namespace) -> dict[str, Any]:
    about, token = machine.describe(), secrets.token_urlsafe(24)
    options = ["--model", args.model, "--size", str(args.size), "--backend", args.backend]
    result: dict[str, Any] = {"machine": about, "model": args.model, "size": args.size, "clip": args.clip, "rounds": args.rounds}
    # Pocket's sessions in the studio start with the feature cache on; render starts without it.
    serving = [*options, "--set", "cache.enabled=false"]
    with tempfile.TemporaryDirectory() as name, studio(serving, token) as server:
        folder = Path(name)
        clip = write_clip(args.clip, args.size, args.frames, folder)
        still = write_clip("still", args.size, args.frames, folder)
        runs = Rounds(server, options, token, folder)
        runs.client(clip)  # a warm-up: graphs in the cache, files in memory
        runs.render(clip)
        pairs = [(runs.client(clip), runs.render(clip)) for _ in range(args.rounds)]
        result["against_render"] = rates([client for client, _ in pairs], [render for _, render in pairs])
        print(json.dumps(result["against_render"], indent=1), flush=True)
        gates = [(runs.client(still), runs.client(still, "gate.enabled=true")) for _ in range(args.rounds)]
        result["gate_on_still"] = gating([off for off, _ in gates], [on for _, on in gates])
        print(json.dumps(result["gate_on_still"], indent=1), flush=True)
        if args.minutes > 0:
            pictures = list(clips.clip("handheld", args.size, args.size, frames=100))
            result["memory"] = asyncio.run(stream_on(server, token, pictures, args.minutes * 60))
            print(json.dumps(result["memory"], indent=1), flush=True)
    return result
