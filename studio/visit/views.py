"""Watching a session from elsewhere: tokens that may do nothing but look, and its pictures as MJPEG.

A token belongs to one session and ends with it. It stands in an address, because OBS and <img> know nothing else: so it is made
only for who holds the session, may not send, change or resume anything, and is no other token of this server.
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
"""A picture that stays is sent again after this time, so that nobody on the way takes the connection for dead."""


class ViewError(Exception):
    """No such view, or too many look at it. `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True)
class View:
    """One session to be looked at."""

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
    def place(self, token: str) -> Iterator[View]:
        """A viewer's place while the context lasts. Raises ViewError 404, and 503 when all `most` places are taken."""
        found = [view for view in self._views.values() if secrets.compare_digest(view.token.encode(), token.encode())]
        if not found:
            raise ViewError(404, "this view does not exist, or its session has ended")
        if found[0].viewers >= self.most:
            raise ViewError(503, "as many as this server allows are watching already")
        found[0].viewers += 1
        try:
            yield found[0]
        finally:
            found[0].viewers -= 1

    def end(self, name: str) -> None:
        """The session is over, and so are its views."""
        view = self._views.pop(name, None)
        if view is not None:
            view.over = True
            view.stream.look()


async def parts(view: View) -> AsyncIterator[bytes]:
    """The session's pictures as parts of a multipart answer, from the present one on, until its end; slow readers miss some."""
    news = view.stream.watch()
    try:
        yield f"--{BOUNDARY}\r\n".encode()
        while not view.over:
            news.clear()
            if (shown := view.stream.shown) is not None:
                yield part(*shown)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await news.wait()
    finally:
        view.stream.unwatch(news)


def part(form: str, picture: bytes) -> bytes:
    """One picture, "jpeg" or "png", and the boundary after it: browsers show a part when they have seen its end."""
    head = f"Content-Type: image/{form}\r\nContent-Length: {len(picture)}\r\n\r\n"
    return head.encode() + picture + f"\r\n--{BOUNDARY}\r\n".encode()
