"""The process that fits a style to a picture: a request as one JSON line in, what becomes of it as JSON lines out.

In a process of its own, since a fit is as much work as a minute of streaming: its priority is lower, its share of the processor
bounded, and to stop a fit is to end its process. It ends with its input, so it never outlives the server.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from pipelines import ModelParts, describe, fitted, write_style
from studio.pictures.codec import use_one_thread

NICE = 5
"""Below the model's thread, so a busy processor is the stream's first; not the lowest, or a fit would never end beside one."""


class Share:
    """Keeps a thread to a share of one core: after work that took so much processor time it rests for what the others are due."""

    def __init__(
        self,
        share: float,
        spent: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._share, self._spent, self._clock, self._sleep = share, spent, clock, sleep
        self._began, self._before = clock(), spent()

    @property
    def used(self) -> float:
        """Processor time as a share of one core since the beginning."""
        return (self._spent() - self._before) / max(self._clock() - self._began, 1e-6)

    def rest(self) -> None:
        due = (self._spent() - self._before) / self._share - (self._clock() - self._began)
        if due > 0:
            self._sleep(due)


def work(request: dict[str, Any], answer: Callable[[dict[str, Any]], None], share: Share) -> None:
    """Fit one picture. request: `model`, `share`, and the picture as `pixels` (base64) with `shape`."""
    parts = ModelParts(describe(request["model"]), offline=True)
    pixels = np.frombuffer(base64.b64decode(request["pixels"]), np.uint8).reshape(request["shape"])
    sent_gain = 0.0
    for done, gain, style in fitted(parts, pixels):
        share.rest()
        message: dict[str, Any] = {"done": round(done, 4), "gain": round(gain, 4), "share": round(share.used, 3)}
        if gain > sent_gain or done == 1.0:
            message["style"] = base64.b64encode(write_style(style)).decode()
            sent_gain = gain
        answer(message)


def main() -> None:
    with contextlib.suppress(OSError, AttributeError):  # Windows has no such priority
        os.nice(NICE)
    use_one_thread()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with, args=(sys.stdin,), daemon=True).start()
    try:
        work(request, lambda message: print(json.dumps(message), file=answers, flush=True), Share(request["share"]))
    except Exception as error:  # a file or a library may fail in any way; the server reports it
        print(json.dumps({"failed": f"{type(error).__name__}: {error}"}), file=answers, flush=True)


def _end_with(stream: IO[str]) -> None:
    """Where the input ends, so does the process, in the middle of a step: the server is gone."""
    stream.read()
    os._exit(0)


if __name__ == "__main__":
    main()
