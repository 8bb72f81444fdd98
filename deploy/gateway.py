"""The common address of several replicas: reads the head of each connection, chooses a replica, then passes bytes both ways.

It parses only the first lines of HTTP, and depends neither on the studio's protocol nor on Ray: a Router chooses the replica and
holds the route. The gateway neither inspects nor stores the data, so a slow reader slows only its own sender.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

log = logging.getLogger("rill")

MAX_HEAD = 32 * 1024
HEAD_S = 10.0
ROUTE_S = 20.0
CHUNK = 256 * 1024

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (\S{1,8192}) HTTP/1\.1")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

BAD_REQUEST = (400, "Bad Request", "the studio does not support this request")
UNAVAILABLE = (503, "Service Unavailable", "no replica is ready; try again in a moment")


class HeadError(Exception):
    """A connection does not begin with an HTTP/1.1 request, or its head is too long."""


class NoReplicaError(Exception):
    """No replica is available for a connection now."""


@dataclass(frozen=True, slots=True)
class Head:
    """A request's first lines, as passed on. at: the replica of the session, if the address names one."""

    raw: bytes
    at: str | None


class Route(Protocol):
    """The chosen replica of a connection: its listener's address."""

    host: str
    port: int

    def release(self) -> None:
        """Call it when the connection has ended."""
        ...


class Router(Protocol):
    async def acquire(self, at: str | None) -> Route:
        """A route on replica `at` if it is alive, else on the least loaded. Raises NoReplicaError."""
        ...


def parse_head(raw: bytes) -> Head:
    """The head of a connection; `raw` ends with the empty line. Raises HeadError.

    A websocket's head is unchanged. Any other request gets `Connection: close`, because the next request on the same connection
    might belong to another replica.
    """
    lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(lines[0])
    if request is None:
        raise HeadError("no HTTP/1.1 request")
    at = parse_qs(urlsplit(request[2].decode("latin-1")).query).get("at", [""])[0]
    found = at if _NAME.fullmatch(at) else None
    names = [line.partition(b":")[0].strip().lower() for line in lines[1:]]
    if b"upgrade" in names:
        return Head(raw, found)
    kept = [line for line, name in zip(lines[1:], names, strict=True) if name not in (b"connection", b"keep-alive")]
    return Head(b"\r\n".join([lines[0], *kept, b"Connection: close"]) + b"\r\n\r\n", found)


class Gateway:
    """Serves at most `most` connections at a time."""

    def __init__(self, router: Router, most: int = 1024) -> None:
        self._router = router
        self._free = asyncio.Semaphore(most)
        self.connections = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, from its first byte to its end."""
        async with self._free:
            self.connections += 1
            try:
                await self._serve(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                pass  # one side has closed the connection
            finally:
                self.connections -= 1
                await _close(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_S):
                head = parse_head(await reader.readuntil(b"\r\n\r\n"))
        except (HeadError, asyncio.LimitOverrunError):
            return await _refuse(writer, *BAD_REQUEST)
        except TimeoutError:
            return
        try:
            async with asyncio.timeout(ROUTE_S):
                route, back, forth = await self._connect(head)
        except (NoReplicaError, TimeoutError):
            return await _refuse(writer, *UNAVAILABLE)
        try:
            forth.write(head.raw)
            await _both(asyncio.create_task(_pump(reader, forth)), asyncio.create_task(_pump(back, writer)))
        finally:
            route.release()
            await _close(forth)

    async def _connect(self, head: Head) -> tuple[Route, asyncio.StreamReader, asyncio.StreamWriter]:
        """A route and a connection to it. A replica that does not answer is not tried twice. Raises NoReplicaError."""
        at = head.at
        for _ in range(3):
            route = await self._router.acquire(at)
            try:
                return route, *await asyncio.open_connection(route.host, route.port, limit=MAX_HEAD)
            except OSError as error:
                log.warning("replica at %s:%d does not answer: %s", route.host, route.port, error)
                route.release()
                at = None
                await asyncio.sleep(0.2)
            except BaseException:
                route.release()
                raise
        raise NoReplicaError("three replicas did not answer")


async def listen(gateway: Gateway, host: str, port: int) -> asyncio.Server:
    """A server on that address; port 0 is any free port. Raises OSError."""
    return await asyncio.start_server(gateway.handle, host, port, limit=MAX_HEAD)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError, NotImplementedError):
        writer.write_eof()


async def _both(forth: asyncio.Task[None], back: asyncio.Task[None]) -> None:
    """Wait until the replica has closed its side, or a side has failed. A client that has only stopped sending gets its
    answer."""
    try:
        await asyncio.wait([forth, back], return_when=asyncio.FIRST_COMPLETED)
        if forth.done() and forth.exception() is None:
            await back
    finally:
        forth.cancel()
        back.cancel()
        await asyncio.gather(forth, back, return_exceptions=True)


async def _refuse(writer: asyncio.StreamWriter, status: int, reason: str, message: str) -> None:
    body = message.encode()
    head = [f"HTTP/1.1 {status} {reason}", "Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(body)}"]
    writer.write("\r\n".join([*head, "Connection: close", "", ""]).encode() + body)
    await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
