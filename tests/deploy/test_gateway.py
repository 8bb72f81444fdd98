"""The gateway with two plain listeners behind it: what it reads, where it goes, what it passes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from deploy.gateway import MAX_HEAD, Gateway, HeadError, NoReplicaError, Route, listen, parse_head

GET = b"GET /rill/stream?at=%b HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def test_a_websockets_head_is_left_as_it_is() -> None:
    head = parse_head(GET % b"r1")
    assert head.raw == GET % b"r1" and head.at == "r1"


def test_any_other_request_gets_a_connection_of_its_own() -> None:
    head = parse_head(b"GET / HTTP/1.1\r\nHost: a\r\nconnection: keep-alive\r\nKeep-Alive: 5\r\n\r\n")
    assert head.raw == b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" and head.at is None


@pytest.mark.parametrize("at", [b"", b"a%20b", b"a/b", b"%00", b"x" * 65])
def test_what_is_no_name_is_no_name(at: bytes) -> None:
    assert parse_head(GET % at).at is None


@pytest.mark.parametrize("raw", [b"\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\r\n\r\n"])
def test_no_request(raw: bytes) -> None:
    with pytest.raises(HeadError):
        parse_head(raw)


class Listener:
    """A replica that sends its name, then echoes."""

    def __init__(self, name: str) -> None:
        self.name, self.host, self.port, self.places = name, "127.0.0.1", 0, 0
        self.heads: list[bytes] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.name.encode())
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def kill(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def release(self) -> None:
        self.places -= 1


class Two:
    """Places on two listeners; the one with fewer connections unless one is named."""

    def __init__(self) -> None:
        self.alive = {name: Listener(name) for name in ("r1", "r2")}

    async def acquire(self, at: str | None) -> Route:
        if not self.alive:
            raise NoReplicaError("no replica")
        found = self.alive.get(at or "") or min(self.alive.values(), key=lambda one: one.places)
        found.places += 1
        return found


@contextlib.asynccontextmanager
async def gateway() -> AsyncIterator[tuple[Two, Gateway, int]]:
    two = Two()
    listeners = list(two.alive.values())
    for listener in listeners:
        await listener.start()
    made = Gateway(two)
    server = await listen(made, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(20):
            yield two, made, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for listener in listeners:
            listener.kill()
        while OPENED:
            OPENED.pop().close()
        await until(lambda: not made.connections)


OPENED: list[asyncio.StreamWriter] = []


async def opened(port: int, at: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    OPENED.append(writer)
    writer.write(GET % at)
    return reader, writer, await reader.read(2)


async def until(true: object) -> None:
    assert callable(true)
    while not true():
        await asyncio.sleep(0.01)


async def test_bytes_pass_both_ways_whatever_they_are() -> None:
    async with gateway() as (two, made, port):
        reader, writer, _ = await opened(port)
        sent = bytes(range(256)) * 8192  # 2 MiB, much more than any buffer
        writer.write(sent)
        assert await reader.readexactly(len(sent)) == sent
        writer.close()
        await until(lambda: not made.connections)
        assert all(listener.places == 0 for listener in two.alive.values())


async def test_a_returning_client_reaches_the_same_replica() -> None:
    async with gateway() as (_, _, port):
        assert [(await opened(port, b"r2"))[2] for _ in range(3)] == [b"r2"] * 3
        assert (await opened(port))[2] == b"r1"


async def test_a_killed_replica_ends_its_connections_and_no_others() -> None:
    async with gateway() as (two, _, port):
        (one, _, _), (other, writer, _) = await opened(port, b"r1"), await opened(port, b"r2")
        two.alive.pop("r1").kill()
        assert await one.read() == b""
        writer.write(b"still there")
        assert await other.readexactly(11) == b"still there"
        assert (await opened(port, b"r1"))[2] == b"r2"


async def test_a_replica_that_does_not_answer_is_passed_over() -> None:
    async with gateway() as (two, _, port):
        two.alive["r1"].kill()  # its name is still in the list
        two.alive["r2"].places = -5
        assert (await opened(port, b"r1"))[2] == b"r2"


async def test_refusals() -> None:
    async with gateway() as (two, made, port):
        for raw in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * (2 * MAX_HEAD)):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(raw)
            assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
            writer.close()
        two.alive.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET % b"")
        assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
        writer.close()
        await until(lambda: not made.connections)
