"""Viewing a session from another program: view-only tokens, and the session's pictures as MJPEG.

A token belongs to one session and ends with it. It is part of an address, since OBS and <img> send nothing else. So only the
session's own client gets one, it permits nothing but viewing, and it differs from every other token of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from studio.stream.stream import Stream

BOUNDARY = "rill"
MEDIA_TYPE = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
AGAIN_S = 2.0
"""An unchanged picture is sent again after this time, so that no proxy takes the connection for dead."""


class ViewError(Exception):
    """There is no such view, or it has too many viewers. `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True)
class View:
    """The view of one session."""

    stream: Stream
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    viewers: int = 0
    over: bool = False


class Views:
    """All views of a server, by session name. Used by the event loop only."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._views: dict[str, View] = {}

    def token(self, name: str, stream: Stream) -> str:
        """The token of a session's view; the same one each time."""
        return self._views.setdefault(name, View(stream)).token

    @contextlib.contextmanager
    def watch(self, token: str) -> Iterator[View]:
        """The view of a token; counts a viewer while the context lasts. Raises ViewError: 404, or 503 with `most` viewers."""
        found = [view for view in self._views.values() if secrets.compare_digest(view.token.encode(), token.encode())]
        if not found:
            raise ViewError(404, "this view does not exist, or its session has ended")
        if found[0].viewers >= self.most:
            raise ViewError(503, f"{self.most} viewers watch this session already; this server allows no more")
        found[0].viewers += 1
        try:
            yield found[0]
        finally:
            found[0].viewers -= 1

    def end(self, name: str) -> None:
        """The session has ended, and its view with it."""
        view = self._views.pop(name, None)
        if view is not None:
            view.over = True
            view.stream.latest.wake_viewers()


async def parts(view: View) -> AsyncIterator[bytes]:
    """The session's pictures as parts of a multipart response, beginning with the present one, until the session ends. Slow
    readers miss pictures."""
    latest = view.stream.latest
    changed = latest.subscribe()
    try:
        yield f"--{BOUNDARY}\r\n".encode()
        while not view.over:
            changed.clear()
            if latest.picture is not None:
                yield part(*latest.picture)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await changed.wait()
    finally:
        latest.unsubscribe(changed)


def part(form: str, picture: bytes) -> bytes:
    """One picture, "jpeg" or "png", and the boundary after it: browsers show a part when they have seen its end."""
    head = f"Content-Type: image/{form}\r\nContent-Length: {len(picture)}\r\n\r\n"
    return head.encode() + picture + f"\r\n--{BOUNDARY}\r\n".encode()
