"""Whoever is slow or silent is let go: in every state a connection has a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest
from websockets.frames import Opcode

from studio.wire.limits import Limits
from tests.hostile.attacks import HELLO, frame, handshake
from tests.hostile.service import until
from tests.studio.harness import Running, joined, serving

SHORT = Limits(header_s=0.2, body_s=0.2, keep_alive_s=0.2, hello_s=0.2, close_s=0.2, write_s=0.2)
LONG = Limits(header_s=600, body_s=600, keep_alive_s=600, hello_s=600, close_s=600, write_s=600)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(SHORT) as server:
        yield server


def post(body: bytes) -> bytes:
    return b"POST /rill/view HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n" + body


SLOW = {
    "nothing": b"",
    "half a request line": b"GET / HT",
    "half of the headers": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-",
    "half of a body": post(b"half"),
    "a request and no more": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a request and half of the next": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /hea",
    "a request that is refused before its body": post(b"").replace(b"/rill/view", b"/unknown"),
    "half of a TLS greeting": b"\x16\x03\x01\x02",
}


def read_all(peer: socket.socket) -> bytes:
    """Everything until the server closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while more := peer.recv(65536):
            received += more
    return received


@pytest.mark.parametrize("what", SLOW)
def test_an_incomplete_request_is_closed(running: Running, what: str) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as peer:
        peer.sendall(SLOW[what])
        read_all(peer)


@pytest.mark.parametrize("what", ["half of the headers", "half of a body"])
async def test_a_trickle_is_no_excuse(running: Running, what: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(SLOW[what])
    closed = asyncio.ensure_future(reader.read())
    while not closed.done():
        writer.write(b"a")
        await asyncio.wait([closed], timeout=0.02)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    "sent",
    [b"", frame(Opcode.PING), frame(Opcode.TEXT, HELLO, False), frame(Opcode.TEXT, HELLO)[:9]],
    ids=["nothing", "a ping", "a fragment", "half a frame"],  # the frames' masks are random, and workers compare names
)
def test_an_incomplete_hello_is_closed(running: Running, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as peer:
        peer.sendall(handshake(running.host))
        assert b" 101 " in peer.recv(4096)
        peer.sendall(sent)
        assert b"timeout" in read_all(peer)


def test_an_unanswered_close_frame_ends_the_connection(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as peer:
        peer.sendall(handshake(running.host))
        assert b" 101 " in peer.recv(4096)
        peer.sendall(frame(Opcode.TEXT, b"no hello"))
        assert b"bad_message" in read_all(peer)


def test_a_client_that_does_not_read_is_closed(running: Running) -> None:
    before = running.admission.total
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", running.port))
        peer.settimeout(60)
        request = b"GET /rill/client/studio.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        with contextlib.suppress(OSError):  # so many answers that no kernel takes them all
            for _ in range(20_000):
                peer.sendall(request)
        until(lambda: running.admission.total <= before, "the connection is let go")


async def test_visitors_are_not_let_go(running: Running) -> None:
    """Long after every limit has passed for another client of the same server."""
    async with joined(running) as peer:
        for _ in range(3):
            await asyncio.to_thread(test_an_incomplete_request_is_closed, running, "nothing")
            assert (await peer.round()).verdict == "generated"


async def test_crowds_of_every_kind_leave_places_for_newcomers() -> None:
    """No time limit helps here: the budgets do."""
    limits = Limits(**{**{name: getattr(LONG, name) for name in ("header_s", "body_s", "hello_s", "close_s", "write_s")},
                       "max_connections": 40, "max_per_address": 40, "max_before_hello": 10})  # fmt: skip
    with serving(limits) as server, contextlib.ExitStack() as stack:
        async with joined(server) as seated:
            for sent in (*SLOW.values(), handshake(server.host)):
                for _ in range(25):
                    peer = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
                    peer.sendall(sent)
                async with joined(server) as newcomer:
                    await newcomer.round()
                assert server.admission.unproven <= 10 and server.admission.total <= 40
            assert (await seated.round()).verdict == "generated"
        stack.close()
        until(lambda: server.admission.total == 0, "all descriptors come back")
