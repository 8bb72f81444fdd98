"""uvicorn's websocket with limits below ASGI: frames of every kind are counted, pongs wait for a peer that does not read.

One read of 256 KiB may hold 43,000 pings or empty fragments, and none of them ever reaches the application.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ProtocolError
from websockets.frames import CTRL_OPCODES, Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from studio.wire.admission import Admission, Entry, State
from studio.wire.http_protocol import SHUTDOWN_S, entry_of
from studio.wire.limits import Limits, TokenBucket
from studio.wire.protocol import CLOSE_CODES, error_text

LINGER_S = 1.0
"""Closing at once, with bytes of the peer's unread, would make its system discard what was sent to it last."""


class CountedProtocol(ServerProtocol):
    """Parses no frame beyond the limits: the rest of what was read is discarded, and the connection fails with `flood`."""

    def __init__(self, limits: Limits, **options: Any) -> None:
        super().__init__(**options)
        self._most_fragments = limits.max_fragments
        self._frames = TokenBucket(limits.frames_per_s, limits.frames_per_s)
        self._controls = TokenBucket(limits.controls_per_s, limits.controls_at_once)
        self._fragments = 0

    def recv_frame(self, frame: Frame) -> None:
        """Raises ProtocolError where there are too many frames; ServerProtocol's parser then ends."""
        control = frame.opcode in CTRL_OPCODES
        bucket = self._controls if control else self._frames
        if not bucket.take(1, time.monotonic()):
            self._flooded("more pings and pongs" if control else "more frames")
        if not control:
            self._fragments = self._fragments + 1 if frame.opcode is Opcode.CONT else 1
            if self._fragments > self._most_fragments:
                self._flooded("more fragments of one message")
        super().recv_frame(frame)

    def _flooded(self, what: str) -> None:
        if self.state is OPEN:
            self.send_text(error_text("flood", f"{what} than this server takes", fatal=True).encode())
            self.fail(CLOSE_CODES["flood"], "flood")
        raise ProtocolError("flood")


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Keeps the state of its connection in the admission up to date."""

    conn: CountedProtocol

    def __init__(self, admission: Admission, **options: Any) -> None:
        super().__init__(**options)
        self._admission = admission
        self._entry: Entry | None = None
        self._pong: bytes | None = None
        self._failed = False
        self.conn = CountedProtocol(admission.limits, max_size=self.config.ws_max_size, logger=self.logger)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._entry = entry_of(self._admission, cast(asyncio.Transport, transport))
        self._enter("hello")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(b"".join(self.conn.data_to_send()))  # 431 for too many headers, else nothing
            self.transport.close()
        elif self.handshake_initiated and not self.handshake_complete:
            self.transport.pause_reading()  # frames have no meaning until the handshake is answered
        self._closing()

    def handle_text(self, event: Frame) -> None:
        self._enter("open")
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        self._enter("open")
        super().handle_bytes(event)

    def send_receive_event_to_app(self) -> None:
        """Text that is not UTF-8 fails the connection with 1007."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError as error:
                self.frames = []
                self.conn.fail(1007, f"{error.reason} at position {error.start}")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        """The pong is sent when the peer reads; of several pings the last is answered (RFC 6455, 5.5.3)."""
        output = [part for part in self.conn.data_to_send() if part]
        if self.writable.is_set() or self.conn.state is not OPEN:
            self.transport.write(b"".join(output))
        elif output:
            self._pong = output[-1]

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._entry is not None and self._entry.state == "open":
            self._enter("unread")

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._entry is not None and self._entry.state == "unread":
            self._admission.enter(self._entry, "open")
        pong, self._pong = self._pong, None
        if pong is not None and not self.close_sent and not self.transport.is_closing():
            self.transport.write(pong)

    def handle_parser_exception(self) -> None:
        """What cannot be parsed ends the connection; the peer has a moment to read why, and more of a flood is not read."""
        if self._failed:
            return
        self._failed = True
        close = self.conn.close_sent
        if close is None:  # before the handshake was answered
            self.transport.close()
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if close.code == CLOSE_CODES["flood"]:
            self.transport.pause_reading()
        if self.close_timer is not None:
            self.close_timer.cancel()
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.abort)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._closing()

    def shutdown(self) -> None:
        """The server ends: close with 1012, and do not wait for peers that do not read."""
        if self.handshake_complete and self.conn.state is not OPEN:
            self.stop_keepalive()
            self.transport.close()
        else:
            super().shutdown()
        self.loop.call_later(SHUTDOWN_S, self.transport.abort)

    async def send(self, message: Any) -> None:
        """Raises ClientDisconnected once this protocol has closed: to uvicorn that would be a mistake of the application."""
        if self.close_sent:
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.send":
            await self.writable.wait()  # so the sender waits while the peer does not read, and then sends what is new
        if message["type"] == "websocket.accept" and not self.read_paused:
            self.transport.resume_reading()
        self._closing()

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self._closing()

    def _closing(self) -> None:
        if self.close_sent or self.transport.is_closing():
            self._enter("closing")

    def _enter(self, state: State) -> None:
        if self._entry is not None and (state != "open" or self._entry.state == "hello"):
            self._admission.enter(self._entry, state)
