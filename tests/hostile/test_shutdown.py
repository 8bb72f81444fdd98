"""The end of the process: soon, with its exit code, whatever its threads, its visitors and its viewers do."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
from collections.abc import AsyncIterator
from queue import Queue

import httpx
import uvicorn

from studio.web.shutdown import Server, Shutdown
from tests.hostile.service import ENDLESS_S, PATIENCE_S, Service, service
from tests.studio.harness import connected, joined

CODES = {signal.SIGTERM: 0, signal.SIGINT: 130}


def ended(running: Service, number: int) -> None:
    """The process ends, with the right code, long before its native code does, and reports nothing strange."""
    assert running.process.wait(ENDLESS_S / 2) == CODES[signal.Signals(number)]
    assert "Traceback" not in running.errors()


async def test_while_the_model_loads_and_a_visitor_waits() -> None:
    with service(hold="load") as running:
        running.line("holding")
        async with connected(running) as peer:
            await peer.send("hello", protocol=1)
            await peer.next_text("loading")
            running.process.send_signal(signal.SIGINT)
            assert (await peer.closed())[0] == 1012
        await asyncio.to_thread(ended, running, signal.SIGINT)


@contextlib.asynccontextmanager
async def watched(running: Service, resume: str) -> AsyncIterator[None]:
    """A viewer of MJPEG who is shown something."""
    async with httpx.AsyncClient(base_url=f"http://{running.host}", trust_env=False, timeout=60) as client:
        headers = {"X-Rill-Resume": resume, "Origin": f"http://{running.host}"}
        token = (await client.post("/rill/view", headers=headers)).json()["token"]
        async with client.stream("GET", f"/rill/view.mjpeg?token={token}") as response:
            assert response.status_code == 200
            await anext(response.aiter_raw())
            yield


HALF_SAID = (b"", b"GET / HT", b"POST /rill/view HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n")


async def test_while_graphs_are_built_and_clients_watch_or_are_silent() -> None:
    with service(hold="build") as running, contextlib.ExitStack() as stack:
        running.line("Model")
        for sent in HALF_SAID:
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port))).sendall(sent)
        async with joined(running) as peer, watched(running, peer.welcome["resume"]):
            await peer.send("settings", patch={"steps": 2})
            await asyncio.to_thread(running.line, "holding")
            await peer.round()
            running.process.send_signal(signal.SIGTERM)
            assert (await peer.closed())[0] == 1012
            await asyncio.to_thread(ended, running, signal.SIGTERM)


def test_a_second_signal_ends_at_once() -> None:
    left: list[int] = []
    for first, second in itertools.product(CODES, CODES):
        shutdown = Shutdown(left.append, end_s=ENDLESS_S)
        shutdown.server = server = Server(uvicorn.Config(print))
        shutdown.receive(first)
        assert server.should_exit and left == []
        shutdown.receive(second)
        assert left.pop() == CODES[signal.Signals(second)]


def test_before_there_is_a_server_the_first_signal_is_the_end() -> None:
    left: list[int] = []
    Shutdown(left.append).receive(signal.SIGTERM)
    assert left == [0]


def test_where_the_server_hangs_the_process_ends_when_the_time_is_over() -> None:
    left: Queue[int] = Queue()
    shutdown = Shutdown(left.put, end_s=0.01)
    shutdown.server = Server(uvicorn.Config(print))
    shutdown.receive(signal.SIGINT)
    assert left.get(timeout=PATIENCE_S) == 130
