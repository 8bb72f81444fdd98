"""A server that has no descriptors left serves on, and takes newcomers in as soon as there is room."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import pytest
from websockets.exceptions import WebSocketException

from studio.wire.admission import Admission
from studio.wire.limits import Limits
from studio.wire.listener import PER_TURN, Listener, affordable_connections
from tests.hostile.service import Service, service, until
from tests.studio.harness import coloured, joined, serving

PICTURE = coloured(90, 120, 150)
SPARE = 12


async def test_silent_connections_give_theirs_to_newcomers() -> None:
    with service() as running, contextlib.ExitStack() as stack:
        running.line("Model")
        async with joined(running) as seated:
            running.allow_descriptors(running.descriptors() + SPARE)
            for _ in range(5 * SPARE):
                stack.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=60)).sendall(b"GET /")
            async with joined(running) as newcomer:
                await newcomer.round(PICTURE)
            assert (await seated.round(PICTURE)).verdict == "generated"
        assert "Traceback" not in running.errors() and running.errors().count("\n") < 60


async def come(running: Service, stack: contextlib.AsyncExitStack) -> None:
    """A newcomer, who connects again when another newcomer is preferred."""
    while True:
        with contextlib.suppress(OSError, WebSocketException):
            await stack.enter_async_context(joined(running))
            return
        await asyncio.sleep(0.05)


async def test_where_all_are_served_accepting_pauses() -> None:
    with service("--max-sessions", "64") as running:
        running.line("Model")
        async with contextlib.AsyncExitStack() as stack:
            seated = await stack.enter_async_context(joined(running))
            running.allow_descriptors(running.descriptors() + SPARE)
            async with contextlib.AsyncExitStack() as crowd:
                for _ in range(SPARE - 1):
                    await crowd.enter_async_context(joined(running))
                waiting = [asyncio.ensure_future(come(running, stack)) for _ in range(4)]
                await asyncio.to_thread(until, lambda: "Too many open files" in running.errors(), "accepting pauses")
                assert (await seated.round(PICTURE)).verdict == "generated"
            await asyncio.gather(*waiting)  # the crowd has gone, and those who waited come in
        assert "Traceback" not in running.errors() and running.errors().count("\n") < 100


class Exhausted(Listener):
    """A listener in a process without descriptors; `tries` counts."""

    tries = 0

    def _next(self) -> tuple[socket.socket, object]:  # type: ignore[override]
        self.tries += 1
        self._exhausted(OSError(errno.EMFILE, "Too many open files"))
        raise OSError(errno.EMFILE, "Too many open files")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


async def test_one_error_a_pause_reaches_the_event_loop(listener: socket.socket) -> None:
    exhausted = Exhausted.adopt(listener, Admission(Limits()))
    with exhausted:
        with pytest.raises(OSError, match="Too many open files"):
            exhausted.accept()
        for _ in range(100):  # asyncio of Python 3.11 goes on
            with pytest.raises(BlockingIOError):
                exhausted.accept()


async def test_one_turn_accepts_a_few(listener: socket.socket) -> None:
    with Listener.adopt(listener, Admission(Limits())) as adopted, contextlib.ExitStack() as stack:
        for _ in range(3 * PER_TURN):
            stack.enter_context(socket.create_connection(adopted.getsockname()))
        turns = []
        while sum(turns) < 3 * PER_TURN:
            turns.append(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    stack.enter_context(adopted.accept()[0])
                    turns[-1] += 1
        assert max(turns) <= PER_TURN


async def test_a_refused_connection_is_answered_and_closed() -> None:
    with serving(Limits(max_connections=1)) as server:
        async with joined(server), asyncio.timeout(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
            writer.close()
            await writer.wait_closed()


def test_fewer_connections_where_the_system_allows_fewer_files(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = {"soft": 100, "hard": 100}
    monkeypatch.setattr("studio.wire.listener.resource.getrlimit", lambda _: (allowed["soft"], allowed["hard"]))
    monkeypatch.setattr("studio.wire.listener.resource.setrlimit", lambda _, pair: allowed.update(soft=pair[0]))
    assert affordable_connections(1024) == 50
    allowed["hard"] = 100_000
    assert affordable_connections(1024) == 1024 and allowed["soft"] == 1024 + 256
