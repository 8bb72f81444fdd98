"""uvicorn's HTTP/1.1 on h11 with time limits: for headers, bodies, peers that do not read, and the server's end."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from studio.wire.admission import Admission, Entry, State
from studio.wire.send_buffer import bound_buffers

SHUTDOWN_S = 0.5
"""An answer that is being sent when the server ends has this long; endless ones, such as MJPEG, never end by themselves."""

HEADER_LINES = 128
HEADER_BYTES = 16 * 1024


class HttpProtocol(H11Protocol):
    """Keeps the state of its connection in the admission up to date."""

    def __init__(self, admission: Admission, **options: Any) -> None:
        super().__init__(**options)
        self._admission = admission
        self._entry: Entry | None = None
        self._head = Counter[str]()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        bound_buffers(transport)
        self._entry = entry_of(self._admission, transport)

    def data_received(self, data: bytes) -> None:
        if self._entry is not None and self._entry.state == "idle":
            self._enter("opening")
        if self.conn.their_state is h11.IDLE and not self._small(data):
            self.send_400_response("The request's headers are too large.")
            return
        super().data_received(data)
        self._enter(self._state())

    def _small(self, data: bytes) -> bool:
        """Are the headers within the bounds so far? h11 checks the size of incomplete ones only, and never their number."""
        head, end, _ = data.partition(b"\r\n\r\n")
        self._head += Counter(lines=head.count(b"\n"), bytes=len(head))
        small = self._head["lines"] <= HEADER_LINES and self._head["bytes"] <= HEADER_BYTES
        if end:
            self._head.clear()
        return small

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._enter(self._state())

    def pause_writing(self) -> None:
        super().pause_writing()
        self._enter("blocked")

    def resume_writing(self) -> None:
        super().resume_writing()
        self._enter(self._state())

    def send_400_response(self, msg: str) -> None:
        """Bytes that are no HTTP get 400, unless an answer to earlier ones has begun: it cannot be completed."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.close()

    def shutdown(self) -> None:
        super().shutdown()
        self.loop.call_later(SHUTDOWN_S, self.transport.abort)

    def _state(self) -> State:
        if self.transport.is_closing():
            return "closing"
        if self.cycle is not None and not self.cycle.response_complete:
            if self.flow.write_paused:
                return "blocked"
            return "request" if self.conn.their_state is h11.SEND_BODY else "answering"
        if self._entry is None or self._entry.state in ("opening", "idle"):
            return "opening" if self._entry is None else self._entry.state
        return "idle"

    def _enter(self, state: State) -> None:
        # After an upgrade the entry is the websocket's.
        if self._entry is not None and self in self.connections:
            self._admission.enter(self._entry, state)


def entry_of(admission: Admission, transport: asyncio.Transport) -> Entry | None:
    """The entry of a transport's connection, which the transport drops from now on; None if its listener admits all."""
    found = transport.get_extra_info("socket")
    entry = None if found is None else admission.find(found.fileno())
    if entry is not None:
        entry.drop, entry.unsent = transport.abort, transport.get_write_buffer_size
    return entry
