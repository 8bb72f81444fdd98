"""How much may wait to be sent on one connection. A picture in a buffer grows old, and no newer one can replace it. With small
buffers a slow reader gets few pictures, and new ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

UNSENT_BYTES = 64 * 1024
"""Most bytes that the kernel keeps which are not on their way yet. What is on its way is for congestion control to bound."""

WAITING_BYTES = 16 * 1024
"""With more than this beyond the kernel's share the connection counts as blocked; one message may always wait whole."""


def bound_buffers(transport: asyncio.WriteTransport) -> None:
    """Bound the buffers of a connection. Where the system has no bound on unsent bytes, the whole send buffer is."""
    transport.set_write_buffer_limits(high=WAITING_BYTES)
    found = transport.get_extra_info("socket")
    if found is None:
        return
    with contextlib.suppress(OSError):  # no TCP, or closed already
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        else:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * UNSENT_BYTES)
