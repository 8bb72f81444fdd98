"""Clients with random settings side by side over real sockets: no stream stands still. Bounded by answers, not by time."""

from __future__ import annotations

import asyncio
import contextlib
import random

import numpy as np

from pipelines import Pixels
from studio.client import StudioClient, StudioError
from studio.wire.limits import Limits
from tests.studio.harness import SIZE, TOKEN, Running, serving

CLIENTS = 3
ANSWERS = 400
SETTINGS = {
    "gate.enabled": [True, True, False],
    "gate.threshold": [0.5, 0.98],
    "gate.max_skip": [5, 300],
    "steps": [1, 2, 3, 4, 4],
    "stream_batch.enabled": [True, True, False],
    "probe.enabled": [False, False, False, True],
    "prompt": ["red", "plain", "plain", "plain"],
}
OPENING = {"gate.enabled": True, "steps": 4}
STILLS: list[Pixels] = [np.full((SIZE, SIZE, 3), level, np.uint8) for level in (40, 120, 200)]


async def visit(running: Running, seed: int) -> None:
    """One client: still scenes and cuts as fast as it has credit, another setting after every few answers."""
    dice = random.Random(seed)
    async with StudioClient(f"http://{running.host}", token=TOKEN, settings=OPENING) as client:

        async def send() -> None:
            with contextlib.suppress(StudioError):  # the receiver finds it too
                while True:
                    scene = dice.choice(STILLS)
                    for _ in range(dice.randint(1, 4)):
                        await client.frame(scene)

        sending = asyncio.create_task(send())
        try:
            for answer in range(ANSWERS):
                async with asyncio.timeout(10):
                    await client.shown()
                if answer % 20 == 0:
                    key = dice.choice(list(SETTINGS))
                    with contextlib.suppress(StudioError):  # the line broke; a session that is lost is found above
                        await client.patch({key: dice.choice(SETTINGS[key])})
                if answer % 90 == 89 and client._socket is not None:
                    client._socket.transport.abort()  # and it comes back by itself
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def test_whatever_is_set_and_however_often_the_line_breaks_every_client_is_answered() -> None:
    with serving(Limits(max_sessions=CLIENTS), step_s=0.01) as running:
        async with asyncio.TaskGroup() as group:
            for seed in range(CLIENTS):
                group.create_task(visit(running, seed))
