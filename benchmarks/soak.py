"""A soak test of the whole studio: clients that change settings every second, and sometimes the stream's size.

It measures the longest wait for an answer, and whether memory and threads grow. The server is a separate process, `app.py
serve`; the clients run on the same machine. `refused` counts refused changes (a size that is not allowed, a setting beyond the
model), which are not errors. `errors` are broken connections and sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import secrets
import shlex
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks import clips, machine
from benchmarks.live import MIB, WINDOW_S, Studio, growth, studio
from benchmarks.measure import add_model_arguments, positive
from pipelines import Pixels
from studio.client import StudioClient, StudioError

WARM_S = 120.0
"""Warm-up. Nothing should grow after it, because all kinds of pictures have been requested."""

SIDES = tuple(range(256, 641, 64))
SAMPLE_S = 0.5
AGAIN_S = 1.0
"""Delay before a client reconnects after an error."""

LEFT_S = 5.0
"""Delay between the end of the last client and the count of threads."""

WORDS = ("a", "bright", "castle", "in", "rain", "watercolour", "made", "of", "glass", "night")

FORMED = ("", "d", "dsds", "dss/d")
"""For settings whose text has a form: those that fit it."""


def value_of(rule: Mapping[str, Any], dice: random.Random, prompts: Sequence[str] = ()) -> object:
    """A random value that a declaration of a welcome's `fields` allows. The limits occur more often than by chance."""
    match rule["kind"]:
        case "flag":
            return dice.random() < 0.5
        case "choice":
            return dice.choice(rule["options"])
        case "text" if form := rule.get("form"):
            return dice.choice([text for text in FORMED if re.fullmatch(form, text)])
        case "text":
            return dice.choice(prompts) if prompts and dice.random() < 0.5 else " ".join(dice.sample(WORDS, dice.randint(0, 5)))
        case "integer":
            return dice.choice([rule["low"], rule["high"], dice.randint(rule["low"], rule["high"])])
        case "number":
            return dice.choice([rule["low"], rule["high"], dice.uniform(rule["low"], rule["high"])])
    raise ValueError(f"a setting of kind {rule['kind']!r}")


@dataclass(slots=True)
class Waits:
    """The waiting time for an answer, in seconds of `clock`.

    It starts at the answer before, or at the first frame after it if no frame was in flight.
    """

    clock: Callable[[], float] = time.monotonic
    longest: float = 0.0
    since: float | None = None

    def sent(self) -> None:
        """A frame was sent."""
        if self.since is None:
            self.since = self.clock()

    def answered(self, more: bool) -> None:
        """An answer has arrived. more: frames are still in flight."""
        self.update()
        self.since = self.clock() if more else None

    def update(self) -> None:
        """Include the present wait in the longest one."""
        if self.since is not None:
            self.longest = max(self.longest, self.clock() - self.since)


@dataclass(slots=True)
class Visitor:
    """One client and its results. resize_s: seconds between two changes of the stream's size, 0 for none."""

    name: str
    dice: random.Random
    every_s: float
    resize_s: float = 0.0
    waits: Waits = field(default_factory=Waits)
    pictures: int = 0
    answers: int = 0
    changes: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    async def stay(self, url: str, token: str, scenes: Sequence[Sequence[Pixels]]) -> None:
        """Connect, and reconnect after an error, until cancelled."""
        while True:
            try:
                async with StudioClient(url, token=token) as client:
                    await self._visit(client, scenes)
            except StudioError as error:
                self.errors[error.code or str(error)] += 1
                self.waits.answered(False)
                await asyncio.sleep(AGAIN_S)

    async def _visit(self, client: StudioClient, scenes: Sequence[Sequence[Pixels]]) -> None:
        works = [self._send(client, scenes), self._receive(client), self._change(client)]
        if self.resize_s:
            works.append(self._resize(client))
        await side_by_side(works)

    async def _send(self, client: StudioClient, scenes: Sequence[Sequence[Pixels]]) -> None:
        while True:
            scene = self.dice.choice(scenes)
            for _ in range(self.dice.randint(1, 100)):
                await client.frame(None if self.dice.random() < 0.02 else self.dice.choice(scene))
                self.waits.sent()

    async def _receive(self, client: StudioClient) -> None:
        while True:
            shown = await client.shown()
            self.waits.answered(client.sent > client.settled)
            self.answers += 1
            self.pictures += shown.pixels is not None

    async def _change(self, client: StudioClient) -> None:
        while True:
            await asyncio.sleep(self.every_s)
            key = self.dice.choice(list(client.welcome["fields"]))
            value = value_of(client.welcome["fields"][key], self.dice, client.welcome["model"]["prompts"])
            await self._ask(client, client.patch({key: value}))

    async def _resize(self, client: StudioClient) -> None:
        while True:
            await asyncio.sleep(self.resize_s)
            await self._ask(client, client.change(width=self.dice.choice(SIDES), height=self.dice.choice(SIDES)))

    async def _ask(self, client: StudioClient, work: Any) -> None:
        try:
            await work
            self.changes += 1
        except StudioError as error:
            if not error.code:
                raise
            self.refused[error.code] += 1

    def report(self) -> dict[str, Any]:
        self.waits.update()
        return {
            "longest_wait_s": round(self.waits.longest, 2),
            "pictures": self.pictures,
            "answers": self.answers,
            "changes": self.changes,
        }


async def side_by_side(works: Sequence[Coroutine[Any, Any, None]], seconds: float | None = None) -> None:
    """Run endless coroutines together for `seconds`, or until one of them fails; re-raises its exception."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(slots=True)
class Watch:
    """Samples of the server's process: (seconds, bytes) and (seconds, threads)."""

    server: Studio
    memory: list[tuple[float, int]] = field(default_factory=list)
    threads: list[tuple[float, int]] = field(default_factory=list)

    async def go_on(self) -> None:
        started = time.monotonic()
        while True:
            at = time.monotonic() - started
            self.memory.append((at, self.server.rss()))
            self.threads.append((at, self.server.process.num_threads()))
            await asyncio.sleep(SAMPLE_S)

    def report(self, warm_s: float) -> dict[str, Any]:
        """Growth after the warm-up of `warm_s` seconds."""
        found = growth(self.memory, warm_s)
        found["warm_mib"] = found.pop("first_minute_mib")
        around = [count for at, count in self.threads if warm_s <= at <= warm_s + WINDOW_S]
        threads = {
            "start": self.threads[0][1],
            "warm": round(median(around)),
            "most": max(count for _, count in self.threads),
            "end": self.threads[-1][1],
        }
        return {"memory": {"start_mib": round(self.memory[0][1] / MIB, 1), "warm_after_s": warm_s, **found}, "threads": threads}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    parser.add_argument("--clients", type=positive, default=4)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--every", type=float, default=1.0, metavar="SECONDS", help="time between two changes of settings of each client"
    )
    parser.add_argument("--resize", type=float, default=30.0, metavar="SECONDS", help="between two changes of the size; 0: none")
    parser.add_argument("--size", type=int, default=512, help="size of the stream at the start, and of the clients' pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", default="", metavar="OPTIONS", help="further options of app.py serve, as one argument")


def main(args: argparse.Namespace) -> dict[str, Any]:
    about, token, seconds = machine.describe(), secrets.token_urlsafe(24), args.minutes * 60
    scenes = [list(clips.clip(name, args.size, args.size, frames=50)) for name in ("handheld", "still")]
    visitors = [
        Visitor(f"client {index}", random.Random(f"{args.seed} {index}"), args.every, args.resize if index == 0 else 0.0)
        for index in range(args.clients)
    ]
    options = ["--model", args.model, "--size", str(args.size), "--backend", args.backend, "--dtype", args.dtype]
    options += ["--max-sessions", str(args.clients), *shlex.split(args.serve)]
    with studio(options, token) as server:
        watch = Watch(server)
        works = [watch.go_on(), *(visitor.stay(server.url, token, scenes) for visitor in visitors)]
        asyncio.run(side_by_side(works, seconds))
        reports = [visitor.report() for visitor in visitors]
        time.sleep(LEFT_S)
        left, new_lines = server.process.num_threads(), server.new_lines()
    found = watch.report(min(WARM_S, seconds / 2))
    found["threads"]["after_all_left"] = left
    counted = {
        "errors": dict(sum((visitor.errors for visitor in visitors), Counter())),
        "refused": dict(sum((visitor.refused for visitor in visitors), Counter())),
        "server_errors": [line for line in new_lines if " ERROR " in line or "Traceback" in line][:20],
    }
    longest = max(report["longest_wait_s"] for report in reports)
    asked = {"model": args.model, "minutes": args.minutes, "seed": args.seed}
    return {"machine": about, **asked, "longest_wait_s": longest, "clients": reports, **found, **counted}
