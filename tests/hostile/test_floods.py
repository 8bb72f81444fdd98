"""Whoever floods the server costs its visitors less than half of their rate, and newcomers are welcome meanwhile and afterwards.

A rate is pictures per second of the server's processor time: it does not depend on what else the machine does. A burst comes with
every fifth picture, so a slow machine gets no more of them per picture than a fast one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from tests.hostile.attacks import FLOODS, Attack, sockets
from tests.hostile.service import Service, service, until
from tests.studio.harness import Peer, coloured, joined

PICTURE = coloured(90, 120, 150, size=512)
PICTURES = 40


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with service("--max-sessions", "64", "--size", "512") as made:
        made.line("Model")
        yield made


async def cost(running: Service, peer: Peer, attack: Attack | None) -> float:
    """Processor seconds of the server for the pictures of one visitor."""
    before = running.cpu_s()
    with sockets(running.port) if attack else contextlib.nullcontext() as attacker:
        for number in range(PICTURES):
            if attack is not None and attacker is not None and number % 5 == 0:
                await asyncio.to_thread(attack, attacker)
            await peer.round(PICTURE)
        async with joined(running) as newcomer:
            await newcomer.round(PICTURE)
    return running.cpu_s() - before


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_visitor_keeps_half_of_the_rate(running: Service, kind: str) -> None:
    descriptors = running.descriptors()
    async with joined(running) as peer:
        quiet = min([await cost(running, peer, None) for _ in range(2)])
        attacked = min([await cost(running, peer, FLOODS[kind]) for _ in range(2)])
        print(f"{kind}: {quiet / attacked:.2f} of the rate; {quiet:.2f} s, attacked {attacked:.2f} s")
        assert attacked < 2 * quiet, f"{quiet:.2f} s alone, {attacked:.2f} s beside {kind}"
    until(lambda: running.descriptors() <= descriptors, "descriptors come back")
    assert "Traceback" not in running.errors()
