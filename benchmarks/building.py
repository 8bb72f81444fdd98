"""Measures clients during graph builds, on a server whose disk store was empty at its start.

One run, one server. A client streams for `--alone` seconds; then the others connect, and their graphs for several rows are
built. The sum of rates and the 95th percentile of latency from then on is compared with the same figures after all builds, with
memory and threads of the server at both times. `--alone 0`: all connect at the start, before even one row's graphs are complete.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from benchmarks import clips, machine
from benchmarks.live import Studio, studio
from benchmarks.measure import add_model_arguments, positive
from benchmarks.sessions import FRAMES, Block, visit
from studio.stream.telemetry import percentile

QUIET_S = 10.0
LONGEST_S = 900.0
"""If the server still builds after this time, it is measured anyway, and the result contains a note."""


@contextmanager
def empty_store() -> Iterator[None]:
    """Servers that are started inside use an empty graph folder."""
    before = os.environ.get("RILL_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RILL_CACHE"] = folder
        try:
            yield
        finally:
            os.environ.pop("RILL_CACHE")
            if before is not None:
                os.environ["RILL_CACHE"] = before


def builds(server: Studio) -> bool:
    """Whether the server has a build process now."""
    return any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in server.process.children())


def rest(server: Studio, longest_s: float) -> None:
    """Wait until the server has had no build process for QUIET_S. (It builds ahead while no client is connected.)"""
    start = quiet = time.perf_counter()
    while (now := time.perf_counter()) - quiet < QUIET_S and now - start < longest_s:
        time.sleep(0.2)
        quiet = time.perf_counter() if builds(server) else quiet


def figures(server: Studio, block: Block) -> dict[str, Any]:
    return {
        "frames_per_s": round(block.rate, 2),
        "latency_p95_ms": round(percentile(block.latencies, 0.95), 1),
        "slowest_share_of_mean": round(block.slowest, 3),
        "rss_mb": round(server.rss() / 1e6),
        "threads": server.process.num_threads(),
        "built_meanwhile": builds(server),
    }


def measured(server: Studio, token: str, args: argparse.Namespace) -> dict[str, Any]:
    pictures = list(clips.clip("handheld", args.size, args.size, frames=FRAMES))

    def block(alone_s: float = 0.0) -> dict[str, Any]:
        return figures(server, asyncio.run(visit(server.url, token, args.clients, pictures, args.seconds, alone_s=alone_s)))

    start, building = time.perf_counter(), block(args.alone)
    rest(server, LONGEST_S)
    until, warm = time.perf_counter() - start, block()
    ratio = building["frames_per_s"] / warm["frames_per_s"] if warm["frames_per_s"] else None
    return {
        "building": building,
        "warm": warm,
        "warm_after_s": round(until, 1),
        "rate_ratio": None if ratio is None else round(ratio, 3),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--clients", type=positive, default=4)
    parser.add_argument("--seconds", type=float, default=20.0, help="of one block")
    parser.add_argument("--alone", type=float, default=60.0, help="seconds that the first client is alone")
    add_model_arguments(parser)


def main(args: argparse.Namespace) -> dict[str, Any]:
    about, token = machine.describe(), secrets.token_urlsafe(24)
    options = ["--model", args.model, "--size", str(args.size), "--backend", args.backend, "--dtype", args.dtype]
    with empty_store(), studio([*options, "--max-sessions", str(args.clients)], token) as server:
        found = measured(server, token, args)
    for name in ("building", "warm"):
        f = found[name]
        print(
            f"  {name:<9} {f['frames_per_s']:>7} frames/s   p95 {f['latency_p95_ms']:>7} ms   {f['rss_mb']} MB   "
            f"{f['threads']} threads{'   (builds)' if f['built_meanwhile'] else ''}",
            flush=True,
        )
    print(f"  warm after {found['warm_after_s']} s; rate while building {found['rate_ratio']} of that", flush=True)
    about = {"machine": about, "model": args.model, "size": args.size, "clients": args.clients, "seconds": args.seconds}
    return about | {"alone_s": args.alone, **found}
