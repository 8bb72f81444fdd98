"""A visitor who waits for a place: told where in the line, heard if it leaves, let in when it is the turn."""

from __future__ import annotations

import asyncio
import contextlib

from studio.stream.stream import Stream
from studio.visit.hub import Hub
from studio.visit.line import LineFull
from studio.visit.seats import RegistryError, Seat
from studio.wire.limits import Bucket
from studio.wire.protocol import Bye, Ping, ProtocolError, pack_text, parse_text
from studio.wire.refusal import Refusal
from studio.wire.sockets import Disconnected, Socket

LOOK_S = 0.25
"""How often a waiting visitor looks for a free place."""


class Visitor:
    """One waiting connection. `messages` bounds what it may say; `hearing` listens on when the wait is over: hear it first."""

    def __init__(self, socket: Socket, hub: Hub, messages: Bucket) -> None:
        self._socket = socket
        self._hub = hub
        self._messages = messages
        self.hearing: asyncio.Future[str | bytes] = asyncio.ensure_future(socket.receive())

    async def wait(self) -> tuple[Seat, Stream]:
        """A place, when it is free and this visitor is the first in line. Raises RegistryError, Refusal, Disconnected."""
        line, limits = self._hub.line, self._hub.limits
        try:
            ticket = line.join(self._hub.clock())
        except LineFull as error:
            raise RegistryError("full", "all places are taken, and too many wait; try again later") from error
        told = (0, 0)
        try:
            while True:
                before, told = told, (line.place(ticket), len(line))
                if told != before:
                    await self._socket.send(pack_text("waiting", place=told[0], of=told[1], turn_s=limits.turn_s))
                if told[0] == 1 and self._hub.returning() is None:
                    with contextlib.suppress(RegistryError):
                        return self._hub.open(self._hub.opening)
                await asyncio.wait([self.hearing], timeout=LOOK_S)
                if self.hearing.done():
                    await self._answer(self.hearing.result())
        finally:
            line.leave(ticket)

    async def _answer(self, message: str | bytes) -> None:
        """A ping gets its pong, a goodbye ends the wait; anything else, or too much of it, is refused."""
        try:
            said = parse_text(message) if isinstance(message, str) else None
        except ProtocolError as error:
            raise Refusal("bad_message", error.message, field=error.field) from error
        if isinstance(said, Bye):
            raise Disconnected
        if not isinstance(said, Ping) or not self._messages.take(1, self._hub.clock()):
            raise Refusal("bad_message", "who waits for a place may only ping or say goodbye")
        await self._socket.send(pack_text("pong", t=said.t))
        self.hearing = asyncio.ensure_future(self._socket.receive())
