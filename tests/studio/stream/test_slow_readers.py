"""Peers that read slowly see new pictures, those that stop are closed: clients and viewers, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect

from studio.pictures import codec
from studio.wire import protocol
from studio.wire.limits import Limits
from studio.wire.protocol import PictureEncoding
from tests.studio.harness import SIZE, TOKEN, Peer, Running, joined, serving
from tests.studio.visit.test_views import token_of

NOISE = codec.encode(np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8), PictureEncoding("png"))
"""A picture of about 50,000 bytes; without a tint the fake engine gives it back."""

PICTURES = 120
MOST_BEHIND = 12
"""Pictures of the kernels' bounded buffers, both ends, and of what is being sent; unbounded ones hold all of them."""


@pytest.fixture
def running() -> Iterator[Running]:
    with serving(Limits(max_sessions=4, write_s=300.0)) as server:
        yield server


@pytest.fixture
def impatient() -> Iterator[Running]:
    with serving(Limits(max_sessions=4, write_s=1.0)) as server:
        yield server


def narrow(running: Running) -> socket.socket:
    """A connection whose own end takes in little ahead of its reader."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    made.connect(("127.0.0.1", running.port))
    made.setblocking(False)
    return made


@contextlib.asynccontextmanager
async def slow(running: Running) -> AsyncIterator[Peer]:
    """A welcomed client that sends no pings and reads only when its transport does."""
    options: dict[str, Any] = {"subprotocols": [protocol.SUBPROTOCOL], "sock": narrow(running), "compression": None}
    options |= {"proxy": None, "max_size": None, "ping_interval": None, "close_timeout": 0.1}
    async with connect(f"ws://{running.host}{protocol.PATH}", **options) as websocket:
        peer = Peer(websocket)
        await peer.send("hello", protocol=1, token=TOKEN, picture={"format": "png"})
        peer.welcome = await peer.next_text("welcome")
        yield peer


async def sent_and_made(running: Running, peer: Peer, pictures: int = PICTURES) -> None:
    """So many frames, each sent when the one before has been answered, whether or not the answer could be sent."""
    session = running.hub._streams[peer.welcome["session"]].session
    for _ in range(pictures):
        await peer.send_frame(NOISE)
        async with asyncio.timeout(20):
            while session.totals["received"] < peer.next_id - 1 or session.in_flight:
                await asyncio.sleep(0.001)


async def test_what_a_slow_client_reads_is_new(running: Running) -> None:
    async with slow(running) as peer:
        peer.socket.transport.pause_reading()
        await sent_and_made(running, peer)
        session = running.hub._streams[peer.welcome["session"]].session
        assert session.drops["unsent"] >= PICTURES - MOST_BEHIND, "pictures wait where no newer one replaces them"
        peer.socket.transport.resume_reading()
        while not peer.answers or peer.answers[-1].settled < PICTURES:
            await peer.receive()
        shown = [answer.frame_id for answer in peer.answers if answer.format != "none"]
        assert len(shown) <= MOST_BEHIND and shown[-1] == PICTURES


async def test_what_a_slow_viewer_reads_is_new(running: Running) -> None:
    async with slow(running) as peer, watching(running, peer) as reader:
        for _ in range(PICTURES):  # it reads what its buffer takes, then nothing
            await peer.round(NOISE)
        await peer.send("bye")
        await peer.closed()
        async with asyncio.timeout(20):
            parts = (await reader.read()).count(b"Content-Type: image/png")
        assert 1 <= parts <= MOST_BEHIND


@contextlib.asynccontextmanager
async def watching(running: Running, peer: Peer) -> AsyncIterator[asyncio.StreamReader]:
    """A viewer that has read the head of the answer, and reads on when its transport does."""
    token = await token_of(running, peer)
    reader, writer = await asyncio.open_connection(sock=narrow(running), limit=2**16)
    try:
        writer.write(f"GET /rill/view.mjpeg?token={token} HTTP/1.1\r\nHost: {running.host}\r\nConnection: close\r\n\r\n".encode())
        await reader.readuntil(b"--rill\r\n")
        yield reader
    finally:
        writer.transport.abort()


async def gone(running: Running, connections: int) -> None:
    """The server has closed the descriptors of all but so many connections."""
    async with asyncio.timeout(15):
        while len(running.admission._entries) > connections:
            await asyncio.sleep(0.02)


async def test_a_client_that_stops_reading_is_closed_and_its_session_is_kept(impatient: Running) -> None:
    async with slow(impatient) as peer:
        peer.socket.transport.pause_reading()
        with contextlib.suppress(Exception):  # the connection ends while it sends
            await sent_and_made(impatient, peer)
        await gone(impatient, 0)
        assert impatient.hub.seats.connected == 0
    async with joined(impatient, resume=peer.welcome["resume"]) as back:
        assert (await back.round(NOISE)).verdict == "generated"


async def test_a_viewer_that_stops_reading_is_closed_and_makes_room(impatient: Running) -> None:
    async with slow(impatient) as peer, watching(impatient, peer):
        view = impatient.hub.views._views[peer.welcome["session"]]
        assert view.viewers == 1
        async with asyncio.timeout(15):
            while view.viewers or len(impatient.admission._entries) > 1:
                await peer.round(NOISE)
