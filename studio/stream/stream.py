"""One session's stream: its parts, each of which belongs to one thread, and the connection that it serves at present.

    event loop     Inbound        Outbound, Mailbox, LatestPicture, Window, Session
    codec pool     FrameReader    PicturePacker
    model thread   ModelCallbacks

Work moves between threads through a Dispatcher. SessionGate.reset may be called from all of them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from studio.stream.dispatcher import Dispatcher
from studio.stream.inbound import FrameReader, Inbound
from studio.stream.latest_picture import LatestPicture
from studio.stream.mailbox import Mailbox
from studio.stream.model_callbacks import ModelCallbacks
from studio.stream.outbound import Outbound, PicturePacker
from studio.stream.services import StreamServices
from studio.stream.session import Session
from studio.stream.session_gate import SessionGate
from studio.stream.telemetry import Window


class Stream:
    """Outlives its connections. Event loop only, but for `callbacks`."""

    def __init__(self, session: Session, services: StreamServices, dispatcher: Dispatcher, gate: SessionGate) -> None:
        self.session = session
        self.window = Window(services.clock(), session.totals)
        self.latest = LatestPicture()
        self.outbound = Outbound(session, services, gate, self.window, self.latest)
        packer = PicturePacker(session, services, dispatcher, self.outbound)
        self.callbacks = ModelCallbacks(dispatcher, self.outbound, packer, gate)
        reader = FrameReader(session, services, dispatcher, self.callbacks, self.outbound, gate, self.window, packer.comparison)
        self.inbound = Inbound(session, services, dispatcher, reader, self.outbound, gate)
        self._services, self._gate = services, gate
        self._exported: tuple[Counter[str], Counter[str]] = (Counter(), Counter())

    @classmethod
    def on_running_loop(cls, session: Session, services: StreamServices) -> Stream:
        """A stream on the running event loop, with a gate of its own."""
        dispatcher = Dispatcher(asyncio.get_running_loop(), services.pool, session.name)
        return cls(session, services, dispatcher, SessionGate())

    @property
    def attached(self) -> bool:
        """Is there a connection?"""
        return not self.outbound.mailbox.closed

    def attach(self, on_error: Callable[[str], None] = lambda code: None) -> Mailbox:
        """A connection begins: nothing of an earlier one is left over. Returns its mailbox.

        on_error: called with the code of each frame's error.
        """
        self.session.wants_references = False
        self.window.restart(self._services.clock(), self.session.totals)
        self._gate.reset()  # this client has no picture yet that a skipped frame could repeat
        return self.outbound.attach(on_error)

    def picture_changed(self) -> None:
        """The picture prompt has other numbers: a still picture must be drawn again with them."""
        self._gate.reset()

    def detach(self) -> None:
        """The connection has ended."""
        self.outbound.detach()

    def export_counts(self) -> None:
        """Add what has happened since the last call to the server's metrics."""
        metrics, (totals, drops) = self._services.metrics, self._exported
        metrics.count(totals, self.session.totals, metrics.frames)
        metrics.count(drops, self.session.drops, metrics.drops)
        self._exported = (self.session.totals.copy(), self.session.drops.copy())
