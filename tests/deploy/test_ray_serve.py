"""Two replicas on this machine, each with a real engine on a miniature model, behind the gateway; one of them is killed."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import warnings
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from deploy.__main__ import add_arguments, cluster_of, keep_local
from deploy.gateway import Gateway, listen
from studio.cli.serve_options import UsageError
from studio.client import DecodedAnswer, StudioClient

keep_local()
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
pytest.importorskip("ray", reason="needs requirements-cluster.txt")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(400)]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray is ahead of its own dependencies' deprecations, and behind others'
    from ray import serve

    from deploy import ray_serve

SIZE = 128
TOKEN = "a-token-for-the-cluster"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def arguments(mini_model: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    spec = ["--model", str(mini_model), "--size", str(SIZE), "--backend", "eager", "--dtype", "float32", "--offline"]
    return parser.parse_args(["--replicas", "2", "2", "--sessions", "4", "--cpus", "1", "--drain", "4", *spec])


@pytest.fixture(scope="module")
def cluster(arguments: argparse.Namespace) -> Iterator[ray_serve.Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RILL_TOKEN", TOKEN)
        patch.setenv("PYTHONPATH", str(ROOT))
        yield cluster_of(arguments)


@pytest.fixture(scope="module")
def handle(cluster: ray_serve.Cluster) -> Iterator[Any]:
    yield ray_serve.start(cluster, cpus=4)
    ray_serve.stop()


@contextlib.asynccontextmanager
async def gateway(handle: Any) -> AsyncIterator[str]:
    server = await listen(Gateway(ray_serve.RayRouter(handle)), "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Visitor:
    """A client that streams a grey picture as fast as answers come, and keeps what it is shown."""

    def __init__(self, url: str, strength: float) -> None:
        self.strength = strength
        settings = {"strength": strength, "prompt": f"strength {strength}"}
        self.client = StudioClient(url, token=TOKEN, settings=settings, reconnects=12)
        self.shown: list[DecodedAnswer] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def at(self) -> str:
        return str(self.client.welcome["at"])

    @property
    def pictures(self) -> int:
        return sum(one.pixels is not None for one in self.shown)

    async def __aenter__(self) -> Visitor:
        await self.client.__aenter__()
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._receive())]
        return self

    async def __aexit__(self, *ended: Any) -> None:
        for task in self._tasks:
            task.cancel()
        failures = [found for found in await asyncio.gather(*self._tasks, return_exceptions=True) if isinstance(found, Exception)]
        await self.client.__aexit__(None, None, None)
        assert not failures, failures

    async def _send(self) -> None:
        picture = np.full((SIZE, SIZE, 3), 128, np.uint8)
        while True:
            await self.client.frame(picture)

    async def _receive(self) -> None:
        while True:
            self.shown.append(await self.client.shown())

    async def see(self, more: int, seconds: float = 60.0) -> None:
        """Until so many more pictures have come."""
        wanted = self.pictures + more
        async with asyncio.timeout(seconds):
            while self.pictures < wanted:
                assert not any(task.done() for task in self._tasks), self._tasks
                await asyncio.sleep(0.02)


async def moved(visitor: Visitor, before: str, seconds: float = 90.0) -> None:
    async with asyncio.timeout(seconds):
        while visitor.at == before:
            await asyncio.sleep(0.05)


async def inside(handle: Any, at: str) -> dict[str, Any]:
    return dict(await handle.inside.remote(at=at))


async def test_killing_one_leaves_the_other_streaming_and_its_clients_go_on_there(handle: Any) -> None:
    async with gateway(handle) as url, contextlib.AsyncExitStack() as stack:
        visitors = [await stack.enter_async_context(Visitor(url, 0.3 + 0.1 * index)) for index in range(4)]
        for visitor in visitors:
            await visitor.see(3)
        homes = [visitor.at for visitor in visitors]
        assert sorted(homes.count(at) for at in set(homes)) == [2, 2], "the replica with the fewest visitors gets the next"

        # A client whose connection breaks comes back to its replica, and to its session.
        wanderer = visitors[0]
        session = wanderer.client.welcome["session"]
        wanderer.client._live().transport.abort()
        await wanderer.see(3)
        assert wanderer.at == homes[0] and wanderer.client.welcome["session"] == session and wanderer.client.welcome["resumed"]
        await visitors[1].client.patch({"strength": 0.9})

        # One replica dies.
        dead = homes[1]
        victim = await inside(handle, dead)
        assert victim["at"] == dead and victim["sessions"] == 2
        staying = [visitor for visitor, at in zip(visitors, homes, strict=True) if at != dead]
        leaving = [visitor for visitor, at in zip(visitors, homes, strict=True) if at == dead]
        sessions = [visitor.client.welcome["session"] for visitor in staying]
        os.kill(victim["pid"], signal.SIGKILL)
        for visitor in staying:
            await visitor.see(10, 20)
        assert [visitor.client.welcome["session"] for visitor in staying] == sessions, "no other session is affected"

        # Its visitors go on with what they had set.
        for visitor in leaving:
            await moved(visitor, dead)
            await visitor.see(5)
            assert visitor.client.welcome["resumed"] is False and visitor.at != dead
            expected = 0.9 if visitor is visitors[1] else visitor.strength
            assert visitor.client.values["strength"] == pytest.approx(expected)
            assert visitor.client.values["prompt"] == f"strength {visitor.strength}"
        assert [visitor.client.welcome["session"] for visitor in staying] == sessions


async def running(wanted: int, seconds: float = 120.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = serve.status().applications[ray_serve.APPLICATION].deployments["Studio"]
            if found.replica_states.get("RUNNING", 0) == wanted:
                return
            await asyncio.sleep(0.2)


async def test_a_replica_that_goes_is_drained(handle: Any, cluster: ray_serve.Cluster) -> None:
    await running(2)  # the killed one has been replaced
    async with gateway(handle) as url, contextlib.AsyncExitStack() as stack:
        visitors = [await stack.enter_async_context(Visitor(url, 0.4)) for _ in range(2)]
        assert visitors[0].at != visitors[1].at
        await asyncio.sleep(cluster.lease_s + 1.0)  # the first calls have ended, and others hold the places
        for visitor in visitors:
            await visitor.see(3)
            assert visitor.client.welcome["resumed"] is False, "no client had to connect again"
        await asyncio.to_thread(ray_serve.deploy, replace(cluster, least=1, most=1))
        async with asyncio.timeout(60):
            while visitors[0].at != visitors[1].at:
                await asyncio.sleep(0.05)
        for visitor in visitors:
            await visitor.see(5)
            assert visitor.client.values["strength"] == pytest.approx(0.4)


def test_nothing_listens_but_on_loopback(handle: Any) -> None:
    mine = psutil.Process()
    found = {(child.name(), one.laddr.ip) for child in [mine, *mine.children(recursive=True)] for one in connections(child)}
    assert found and all(ip.removeprefix("::ffff:") in ("127.0.0.1", "::1") for _, ip in found), found


def connections(process: psutil.Process) -> list[Any]:
    try:
        return [one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def test_arguments_that_make_no_sense(arguments: argparse.Namespace) -> None:
    for wrong in ({"replicas": (0, 1)}, {"replicas": (3, 2)}, {"sessions": 0}, {"drain": 0.0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            cluster_of(argparse.Namespace(**{**vars(arguments), **wrong}))
