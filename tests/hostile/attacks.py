"""Attacks from plain sockets, to 127.0.0.1 only. Each is a burst that ends by itself; a test decides the number."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator

from websockets.frames import Frame, Opcode

from studio.wire.protocol import PATH, SUBPROTOCOL

BURST = 256 * 1024
HELLO = json.dumps({"type": "hello", "protocol": 1}).encode()


def handshake(host: str, more: str = "") -> bytes:
    """A websocket handshake like the page's."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET {PATH} HTTP/1.1",
        f"Host: {host}",
        f"Origin: http://{host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
        f"Sec-WebSocket-Key: {key}",
    ]
    return ("\r\n".join(lines) + f"\r\n{more}\r\n").encode()


def frame(opcode: Opcode, data: bytes = b"", fin: bool = True) -> bytes:
    """One masked frame."""
    return Frame(opcode, data, fin).serialize(mask=True)


def repeated(piece: bytes) -> bytes:
    return piece * (BURST // len(piece))


class Sockets:
    """The sockets of one attack. Nothing that the server does to them is an error; they are closed at the end."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.host = f"127.0.0.1:{port}"
        self.open: list[socket.socket] = []

    def connect(self, data: bytes = b"") -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.open.append(made)
        send(made, data)
        return made

    def upgrade(self, data: bytes = b"") -> socket.socket:
        """A websocket whose handshake has been answered."""
        made = self.connect(handshake(self.host))
        with contextlib.suppress(OSError):
            received = b""
            while b"\r\n\r\n" not in received and (more := made.recv(4096)):
                received += more
        send(made, data)
        return made

    def close(self) -> None:
        for made in self.open:
            made.close()


def send(made: socket.socket, data: bytes) -> None:
    """Send all of it, or as much as the peer accepts before it closes or stops reading."""
    made.settimeout(1.0)
    with contextlib.suppress(OSError):
        made.sendall(data)
    made.settimeout(10)


@contextlib.contextmanager
def sockets(port: int) -> Iterator[Sockets]:
    made = Sockets(port)
    try:
        yield made
    finally:
        made.close()


Attack = Callable[[Sockets], None]


def flood(first: bytes, piece: bytes) -> Attack:
    """After hello, `first` and then as many of `piece` as one read of the server holds."""
    data = frame(Opcode.TEXT, HELLO) + first + repeated(piece)
    return lambda sockets: (sockets.upgrade(data), None)[1]


def huge_headers(sockets: Sockets) -> None:
    for _ in range(2):
        sockets.connect(handshake(sockets.host, "".join(f"X-{number}: {'x' * 900}\r\n" for number in range(100))))
        sockets.connect(handshake(sockets.host, "a: b\r\n" * 2000))
        sockets.connect(handshake(sockets.host, "a: b\r\n" * 40_000))


def tiny_segments(sockets: Sockets) -> None:
    made = sockets.upgrade()
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in frame(Opcode.TEXT, b" " * 500):
        send(made, bytes([byte]))


def silent(count: int, *sent: bytes) -> Attack:
    """Connections that send only these bytes."""

    def attack(sockets: Sockets) -> None:
        for number in range(count):
            sockets.connect(sent[number % len(sent)])

    return attack


def without_hello(sockets: Sockets) -> None:
    for _ in range(20):
        sockets.connect(handshake(sockets.host))


FLOODS: dict[str, Attack] = {
    "pings": flood(b"", frame(Opcode.PING)),
    "pings with payload": flood(b"", frame(Opcode.PING, bytes(125))),
    "pongs": flood(b"", frame(Opcode.PONG)),
    "empty fragments": flood(frame(Opcode.BINARY, b"", False), frame(Opcode.CONT, b"", False)),
    "tiny fragments": flood(frame(Opcode.BINARY, b"x", False), frame(Opcode.CONT, b"x", False)),
    "tiny messages": flood(b"", frame(Opcode.BINARY, b"x")),
    "close frames": flood(b"", frame(Opcode.CLOSE, b"\x03\xe8")),
    "huge headers": huge_headers,
    "tiny segments": tiny_segments,
    "half-open requests": silent(20, b"", b"GET / HTTP/1.1\r\nHost: a", b"\x16\x03\x01\x02\x00\x01"),
    "without hello": without_hello,
}
