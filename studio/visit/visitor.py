"""A client that waits for a seat: it is sent its position in the line, may leave, and gets the seat when it is first."""

from __future__ import annotations

import asyncio
import contextlib

from studio.stream.stream import Stream
from studio.visit.hub import Hub
from studio.visit.line import LineFull, Ticket
from studio.visit.seats import Seat, SeatError
from studio.visit.views import View
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
        line = self._hub.line
        try:
            ticket = line.join(self._hub.clock())
        except LineFull as error:
            raise SeatError("full", "all places are taken, and the line is full; try again later") from error
        with contextlib.ExitStack() as stack:
            stack.callback(line.leave, ticket)
            view = stack.enter_context(self._hub.views.lend()) if self._hub.config.watch_waiting else None
            return await self._take_turn(ticket, view)

    async def _take_turn(self, ticket: Ticket, view: View | None) -> tuple[Seat, Stream]:
        line, sent = self._hub.line, (0, 0)
        while True:
            if view is not None:
                view.show(self._hub.on_stage())
            before, sent = sent, (line.position(ticket), len(line))
            if sent != before:
                await self._socket.send(self._place(ticket, view))
            if sent[0] == 1 and self._hub.returning() is None:
                with contextlib.suppress(SeatError):
                    return self._hub.open(self._hub.opening)
            await asyncio.wait([self.receiving], timeout=POLL_S)
            if self.receiving.done():
                await self._answer(self.receiving.result())

    def _place(self, ticket: Ticket, view: View | None) -> str:
        """The `waiting` message."""
        hub = self._hub
        wait = round(hub.line.wait_s(ticket, hub.seats.turns(), hub.clock()), 1)
        watch = {} if view is None else {"view": view.token, "at": hub.config.name}
        place, of = hub.line.position(ticket), len(hub.line)
        return pack_text("waiting", place=place, of=of, turn_s=hub.limits.turn_s, wait_s=wait, **watch)

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
