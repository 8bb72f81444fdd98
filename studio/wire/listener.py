"""A listening socket that admits connections (studio/wire/admission.py) and counts them until their descriptors are closed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import time
from typing import Any

from studio.wire.admission import Admission

log = logging.getLogger("rill")

PER_TURN = 8
"""Connections accepted in one turn of the event loop; asyncio would accept all that wait, while everything else waits."""

REFUSED_PER_TURN = 64
PAUSE_S = 0.5
SWEEP_S = 1.0
OWN_DESCRIPTORS = 256
"""Files, pipes and devices of the process itself."""

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Accepted(socket.socket):
    """A connection that releases its entry in the admission when it is closed."""

    admission: Admission | None = None

    def close(self) -> None:
        admission, self.admission = self.admission, None
        if admission is not None:
            admission.release(self.fileno())
        super().close()


class Listener(socket.socket):
    """`adopt` makes one. Blocking or not, `accept` raises BlockingIOError to end a turn."""

    admission: Admission
    tls: bool
    _left = PER_TURN
    _paused_at = -PAUSE_S
    _sweeping = False

    @classmethod
    def adopt(cls, listener: socket.socket, admission: Admission, tls: bool = False) -> Listener:
        """The same listening socket with admission; `listener` is detached."""
        adopted = cls(listener.family, listener.type, listener.proto, fileno=listener.detach())
        adopted.admission, adopted.tls = admission, tls
        return adopted

    def accept(self) -> tuple[socket.socket, Any]:
        """A connection that was admitted, and its address. Raises BlockingIOError when there is none for this turn, and OSError
        EMFILE once per pause: asyncio then rests for a second."""
        self._keep_sweeping()
        if self._left <= 0:
            self._left = PER_TURN
            raise BlockingIOError
        self._left -= 1
        for _ in range(REFUSED_PER_TURN):
            accepted, address = self._next()
            reason = self.admission.admit(accepted.fileno(), str(address[0]), lambda s=accepted: _shut(s))  # type: ignore[misc]
            if reason is None:
                accepted.admission = self.admission
                return accepted, address
            self._refuse(accepted, reason)
        raise BlockingIOError

    def _next(self) -> tuple[Accepted, Any]:
        try:
            accepted, address = super().accept()
        except OSError as error:
            self._left = PER_TURN
            if error.errno in _EXHAUSTED:
                self._exhausted(error)
            raise
        return Accepted(self.family, self.type, self.proto, fileno=accepted.detach()), address

    def _exhausted(self, error: OSError) -> None:
        """Close a connection that serves no client, and accept the new one in the next turn; pause if there is none."""
        if self.admission.make_room():
            raise BlockingIOError from error
        now = time.monotonic()
        if now - self._paused_at < PAUSE_S:  # asyncio of Python 3.11 accepts again although it has decided to pause
            raise BlockingIOError from error
        self._paused_at = now

    def _refuse(self, accepted: Accepted, reason: str) -> None:
        log.warning("a connection was refused: %s", reason)
        if not self.tls:
            with contextlib.suppress(OSError):
                accepted.setblocking(False)
                accepted.send(BUSY)
        accepted.close()

    def _keep_sweeping(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        self.admission.sweep()
        if self.admission.total:
            self._keep_sweeping()


def affordable_connections(most: int) -> int:
    """As many of `most` connections as this process may have descriptors for; raises its own limit as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + OWN_DESCRIPTORS
    if soft < wanted and (hard == resource.RLIM_INFINITY or soft < hard):
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < wanted:
        log.warning("this process may open %d files, so %d connections are taken instead of %d", soft, max(16, soft // 2), most)
    return most if soft >= wanted else max(16, soft // 2)


def _shut(accepted: socket.socket) -> None:
    """Used during the TLS handshake, before there is a transport to abort."""
    with contextlib.suppress(OSError):
        accepted.shutdown(socket.SHUT_RDWR)
