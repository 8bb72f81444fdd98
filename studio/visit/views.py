"""Viewing a session from another program: view-only tokens, and the session's pictures as MJPEG.

A token is part of an address, since OBS and <img> send nothing else. So only the session's own client gets one, it permits
nothing but viewing, and it differs from every other token of the server. There are three kinds. One belongs to a session and ends
with it. One belongs to an output, which is a secret key that its owner keeps: the token is a digest of the key. So the address
stays valid when the session or the server ends, and who only has the address cannot show a session there. One is lent to a
client that waits for a seat, where the operator allows it, and ends with the wait.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from studio.stream.stream import Stream

BOUNDARY = "rill"
MEDIA_TYPE = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
AGAIN_S = 2.0
"""An unchanged picture is sent again after this time, so that no proxy takes the connection for dead."""

KEY = re.compile(r"[A-Za-z0-9_-]{22,64}")
"""An output's key: at least 128 bits in base64url."""
OUTPUT = re.compile(r"out-[A-Za-z0-9_-]{43}")
OUTPUTS = 64
"""Outputs that are remembered with their last picture; of those without session and viewers the longest unused goes first."""


class ViewError(Exception):
    """There is no such view, or it has too many viewers. `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True, eq=False)
class View:
    """The view of one session, or an output at which sessions come and go (`stream` None: there is none)."""

    stream: Stream | None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    viewers: int = 0
    over: bool = False
    last: tuple[str, bytes] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def show(self, stream: Stream | None) -> None:
        """Another session's pictures from here on; with None the last picture stays."""
        if stream is self.stream:
            return
        before, self.stream = self.stream, stream
        if before is not None:
            self.last = before.latest.picture or self.last
            before.latest.wake_viewers()
        self.changed.set()
        self.changed = asyncio.Event()


def output_token(key: str) -> str:
    """The token of the output with this key. Raises ViewError 400 for what is no key."""
    if not KEY.fullmatch(key):
        raise ViewError(400, "X-Rill-Output: a key has 22 to 64 letters, digits, - or _")
    digest = hashlib.sha256(b"rill output " + key.encode()).digest()
    return "out-" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class Views:
    """All views of a server, `most` viewers for each session. Used by the event loop only."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._views: dict[str, View] = {}  # by session name
        self._lent: list[View] = []
        self._outputs: dict[str, View] = {}  # by token, the one used last at the end

    def token(self, name: str, stream: Stream) -> str:
        """The token of a session's view; the same one each time."""
        return self._views.setdefault(name, View(stream)).token

    def put(self, key: str, stream: Stream) -> str:
        """Shows a session at the output with this key, and at no other; the output's token. Raises ViewError 400."""
        view = self._output(output_token(key))
        for other in self._outputs.values():
            if other.stream is stream and other is not view:
                other.show(None)
        view.show(stream)
        return view.token

    @contextlib.contextmanager
    def lend(self) -> Iterator[View]:
        """A view for a client that waits: its token is valid while the context lasts. `View.show` chooses the session."""
        view = View(None)
        self._lent.append(view)
        try:
            yield view
        finally:
            self._lent.remove(view)
            view.over = True
            view.show(None)
            view.changed.set()

    @contextlib.contextmanager
    def watch(self, token: str) -> Iterator[View]:
        """The view of a token; counts a viewer while the context lasts. Raises ViewError: 404, or 503 with `most` viewers.

        An output without a session can be watched too, by `most` viewers of all such outputs: after a restart viewers come first.
        All lent views together have `most` viewers.
        """
        view = self._found(token)
        idle = [each for each in self._outputs.values() if each.stream is None]
        rivals = self._lent if view in self._lent else [view] if view.stream else idle
        if sum(each.viewers for each in rivals) >= self.most:
            raise ViewError(503, f"{self.most} viewers watch this session already; this server allows no more")
        view.viewers += 1
        try:
            yield view
        finally:
            view.viewers -= 1

    def _found(self, token: str) -> View:
        if OUTPUT.fullmatch(token):
            return self._output(token)
        known = (*self._views.values(), *self._lent)
        found = [view for view in known if secrets.compare_digest(view.token.encode(), token.encode())]
        if not found:
            raise ViewError(404, "this view does not exist, or its session has ended")
        return found[0]

    def _output(self, token: str) -> View:
        view = self._outputs.pop(token, None) or View(None, token)
        self._outputs[token] = view
        unused = [name for name, each in self._outputs.items() if each is not view and not each.viewers and each.stream is None]
        for name in unused[: max(0, len(self._outputs) - OUTPUTS)]:
            del self._outputs[name]
        return view

    def end(self, name: str, stream: Stream | None = None) -> None:
        """The session has ended, and its view with it; an output keeps its last picture."""
        view = self._views.pop(name, None)
        if view is not None:
            view.over, stream = True, stream or view.stream
        if stream is None:
            return
        stream.latest.wake_viewers()
        for shown in (*self._outputs.values(), *self._lent):
            if shown.stream is stream:
                shown.show(None)


async def parts(view: View) -> AsyncIterator[bytes]:
    """The view's pictures as parts of a multipart response, beginning with the present one, until the view ends. Slow readers
    miss pictures."""
    yield f"--{BOUNDARY}\r\n".encode()
    while not view.over:
        stream, moved = view.stream, view.changed
        if stream is None:
            if view.last is not None:
                yield part(*view.last)
            await _within(AGAIN_S, moved)
            continue
        changed = stream.latest.subscribe()
        try:
            while not view.over and view.stream is stream:
                changed.clear()
                if (picture := stream.latest.picture or view.last) is not None:
                    yield part(*picture)
                await _within(AGAIN_S, changed)
        finally:
            stream.latest.unsubscribe(changed)


async def _within(seconds: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def part(form: str, picture: bytes) -> bytes:
    """One picture, "jpeg" or "png", and the boundary after it: browsers show a part when they have seen its end."""
    head = f"Content-Type: image/{form}\r\nContent-Length: {len(picture)}\r\n\r\n"
    return head.encode() + picture + f"\r\n--{BOUNDARY}\r\n".encode()
