"""A client that waits for a seat: it is sent its position in the line, may leave, and gets the seat when it is first."""

from __future__ import annotations

import asyncio
import contextlib

from studio.stream.stream import Stream
from studio.visit.hub import Hub
from studio.visit.line import LineFull
from studio.visit.seats import Seat, SeatError
from studio.wire.limits import TokenBucket
from studio.wire.protocol import Bye, Ping, ProtocolError, pack_text, parse_text
from studio.wire.refusal import Refusal
from studio.wire.sockets import Disconnected, Socket

POLL_S = 0.25
"""A waiting client tries to take a seat this often."""


class Visitor:
    """One waiting connection. `messages` bounds how much it may send; `receiving` is the pending `receive` of its socket, whose
    message comes first when the wait is over."""

    def __init__(self, socket: Socket, hub: Hub, messages: TokenBucket) -> None:
        self._socket = socket
        self._hub = hub
        self._messages = messages
        self.receiving: asyncio.Future[str | bytes] = asyncio.ensure_future(socket.receive())

    async def wait(self) -> tuple[Seat, Stream]:
        """A seat, once one is free and this client is the first in the line. Raises SeatError, Refusal, Disconnected."""
        line, limits = self._hub.line, self._hub.limits
        try:
            ticket = line.join(self._hub.clock())
        except LineFull as error:
            raise SeatError("full", "all places are taken, and the line is full; try again later") from error
        sent = (0, 0)
        try:
            while True:
                before, sent = sent, (line.position(ticket), len(line))
                if sent != before:
                    await self._socket.send(pack_text("waiting", place=sent[0], of=sent[1], turn_s=limits.turn_s))
                if sent[0] == 1 and self._hub.returning() is None:
                    with contextlib.suppress(SeatError):
                        return self._hub.open(self._hub.opening)
                await asyncio.wait([self.receiving], timeout=POLL_S)
                if self.receiving.done():
                    await self._answer(self.receiving.result())
        finally:
            line.leave(ticket)

    async def _answer(self, message: str | bytes) -> None:
        """Reply to a ping; a bye ends the wait; anything else, or too many pings, are refused."""
        try:
            parsed = parse_text(message) if isinstance(message, str) else None
        except ProtocolError as error:
            raise Refusal("bad_message", error.message, field=error.field) from error
        if isinstance(parsed, Bye):
            raise Disconnected
        if not isinstance(parsed, Ping) or not self._messages.take(1, self._hub.clock()):
            raise Refusal("bad_message", "a client that waits for a place may only send ping and bye")
        await self._socket.send(pack_text("pong", t=parsed.t))
        self.receiving = asyncio.ensure_future(self._socket.receive())
