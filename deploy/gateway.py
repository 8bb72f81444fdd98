"""The one address of many replicas: reads the head of each connection, asks where it belongs, then passes bytes both ways.

Knows HTTP's first lines and nothing of the studio's protocol or of Ray: `place` says where a connection goes and holds the place.
What is sent is never looked at nor kept, so a slow reader slows its own sender and nobody else.
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
PLACE_S = 20.0
CHUNK = 256 * 1024

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (\S{1,8192}) HTTP/1\.1")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

BAD_REQUEST = (400, "Bad Request", "this is no request that the studio understands")
UNAVAILABLE = (503, "Service Unavailable", "no replica is ready; try again in a moment")


class HeadError(Exception):
    """The beginning of a connection is no HTTP/1.1 request, or is too long."""


class PlaceError(Exception):
    """There is no replica for a connection now."""


@dataclass(frozen=True, slots=True)
class Head:
    """A request's first lines as they are passed on. at: the replica that holds the session, if the address names one."""

    raw: bytes
    at: str | None


class Place(Protocol):
    """A replica that has been chosen for a connection: its listener's address."""

    host: str
    port: int

    def leave(self) -> None:
        """The connection is over."""
        ...


class Places(Protocol):
    async def take(self, at: str | None) -> Place:
        """A place on replica `at` if it is alive, else on the least loaded. Raises PlaceError."""
        ...


def parse_head(raw: bytes) -> Head:
    """`raw` ends with the empty line. Raises HeadError.

    A websocket's head is left as it is. Any other request asks for a connection of its own: the next one on the same connection
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
    """Listens once, and serves at most `most` connections at a time."""

    def __init__(self, places: Places, most: int = 1024) -> None:
        self._places = places
        self._free = asyncio.Semaphore(most)
        self.connections = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its end."""
        async with self._free:
            self.connections += 1
            try:
                await self._serve(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                pass  # one of the two sides is gone, and so is this connection
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
            async with asyncio.timeout(PLACE_S):
                place, back, forth = await self._connect(head)
        except (PlaceError, TimeoutError):
            return await _refuse(writer, *UNAVAILABLE)
        try:
            forth.write(head.raw)
            await _both(asyncio.create_task(_pump(reader, forth)), asyncio.create_task(_pump(back, writer)))
        finally:
            place.leave()
            await _close(forth)

    async def _connect(self, head: Head) -> tuple[Place, asyncio.StreamReader, asyncio.StreamWriter]:
        """A place and a connection to it; one that has just died is not asked twice. Raises PlaceError."""
        at = head.at
        for _ in range(3):
            place = await self._places.take(at)
            try:
                return place, *await asyncio.open_connection(place.host, place.port, limit=MAX_HEAD)
            except OSError as error:
                log.warning("replica at %s:%d does not answer: %s", place.host, place.port, error)
                place.leave()
                at = None
                await asyncio.sleep(0.2)
            except BaseException:
                place.leave()
                raise
        raise PlaceError("three replicas did not answer")


async def listen(gateway: Gateway, host: str, port: int) -> asyncio.Server:
    """A server on that address; port 0 takes a free one. Raises OSError."""
    return await asyncio.start_server(gateway.handle, host, port, limit=MAX_HEAD)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError, NotImplementedError):
        writer.write_eof()


async def _both(forth: asyncio.Task[None], back: asyncio.Task[None]) -> None:
    """Until the replica has said its last, or a side is gone; who has only stopped sending still gets an answer."""
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
