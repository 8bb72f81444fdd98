"""Request bodies: small ones are read before the application runs, larger or slower ones never reach it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
"""ASGI's, as Starlette has them."""


class BodyError(Exception):
    """A body that is refused. `status` is HTTP's: 408 too slow, 413 too large."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Gone(Exception):
    """The client went away before its body was complete."""


def announced(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """The size in bytes of the body that these headers announce: 0 for none, None where only its end will show it."""
    named = dict(headers)
    if b"transfer-encoding" in named:
        return None
    try:
        return int(named.get(b"content-length", b"0"))
    except ValueError:
        return None


async def read(receive: Receive, size: int | None, most: int, seconds: float) -> bytes:
    """A body of at most `most` bytes, within `seconds`. size: of `announced`. Raises BodyError; Gone."""
    if size is not None and size > most:
        raise BodyError(413, f"this server takes bodies of at most {most} bytes")
    if size == 0:
        return b""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                body += message.get("body", b"")
                if len(body) > most:
                    raise BodyError(413, f"this server takes bodies of at most {most} bytes")
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError as error:
        raise BodyError(408, f"the body did not arrive within {seconds:g} s") from error


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives `body` first, then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
