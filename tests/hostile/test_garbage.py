"""Nothing that a visitor sends, and no moment at which a visitor goes, makes the server report a traceback."""

from __future__ import annotations

import random
import socket
import struct
import subprocess
from collections.abc import Iterator

import pytest
from websockets.frames import Opcode

from studio.wire.protocol import pack_frame
from tests.hostile.attacks import HELLO, frame, handshake, send, sockets
from tests.hostile.service import Service, service, until
from tests.studio.harness import coloured, connected, joined

PICTURE = coloured(90, 120, 150)
ENDS = ("close", "reset", "half-close")
GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def post(*headers: str, body: bytes = b"") -> bytes:
    return ("\r\n".join(["POST /rill/view HTTP/1.1", "Host: 127.0.0.1", *headers]) + "\r\n\r\n").encode() + body


HTTP = {
    "nothing": b"",
    "zeros": bytes(2000),
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "another protocol": b"SSH-2.0-OpenSSH_9.9\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an unknown version": b"GET / HTTP/9.9\r\n\r\n",
    "bytes beyond ASCII": b"GET /\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "escapes that are no UTF-8": b"GET /%ff%fe%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a long line": b"GET /" + b"a" * 100_000,
    "many headers": b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two lengths": post("Content-Length: 3", "Content-Length: 4", body=b"abcd"),
    "a negative length": post("Content-Length: -1"),
    "a huge length": post("Content-Length: 99999999999999999999"),
    "bad chunks": post("Transfer-Encoding: chunked", body=b"zz\r\nabc\r\n"),
    "chunks cut off": post("Transfer-Encoding: chunked", body=b"5\r\nab"),
    "a request and garbage": GET + b"\x00\x01garbage\r\n\r\n",
    "many requests at once": GET * 50,
    "an answer that is not awaited": GET[:-2] + b"Connection: close\r\n\r\n",
    "an upgrade to something else": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "a continue that is expected": post("Content-Length: 5", "Expect: 100-continue"),
}


def variants(host: str) -> dict[str, bytes]:
    """Handshakes that are not quite right."""
    good = handshake(host)
    return {
        "cut off": good[:-30],
        "without a key": good.replace(b"Sec-WebSocket-Key", b"X-Key"),
        "a bad key": good.replace(b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Key: \xff"),
        "an old version": good.replace(b"Version: 13", b"Version: 8"),
        "a post": good.replace(b"GET ", b"POST "),
        "HTTP/1.0": good.replace(b"HTTP/1.1", b"HTTP/1.0"),
        "a body": good.replace(b"Upgrade: ", b"Content-Length: 5\r\nUpgrade: ") + b"abcde",
        "chunks": good.replace(b"Upgrade: ", b"Transfer-Encoding: chunked\r\nUpgrade: ") + b"0\r\n\r\n",
        "many headers": handshake(host, "a: b\r\n" * 110),
        "another origin": good.replace(b"Origin: http://127", b"Origin: http://evil"),
        "another path": good.replace(b"/rill/", b"/other/"),
        "frames at once": good + frame(Opcode.PING) + frame(Opcode.TEXT, HELLO) + frame(Opcode.CLOSE),
        "good": good,
    }


FRAMES = {
    "text that is not UTF-8": frame(Opcode.TEXT, b"\xff\xfe"),
    "half a character": frame(Opcode.TEXT, b"\xe2\x82", False) + frame(Opcode.CONT, b"\x28"),
    "surrogates": frame(Opcode.TEXT, b'{"type": "hello", "protocol": 1, "client": "\\ud800"}'),
    "not masked": bytes([0x81, 5]) + b"hello",
    "a reserved bit": bytes([0xF1, 0x80]) + bytes(4),
    "a reserved opcode": bytes([0x83, 0x80]) + bytes(4),
    "a ping too long": bytes([0x89, 0xFE, 0x01, 0x00]) + bytes(300),
    "a ping in parts": bytes([0x09, 0x80]) + bytes(4),
    "a part of nothing": frame(Opcode.CONT, b"x"),
    "a message within a message": frame(Opcode.TEXT, b"x", False) + frame(Opcode.TEXT, b"y"),
    "a close of one byte": frame(Opcode.CLOSE, b"\x03"),
    "a close with a wrong code": frame(Opcode.CLOSE, b"\x00\x01"),
    "a close that is not UTF-8": frame(Opcode.CLOSE, b"\x03\xe8\xff"),
    "a close within a message": frame(Opcode.TEXT, b"x", False) + frame(Opcode.CLOSE, b"\x03\xe8"),
    "frames after a close": frame(Opcode.CLOSE) + frame(Opcode.TEXT, HELLO) * 3,
    "a huge length": bytes([0x82, 0xFF]) + struct.pack(">Q", 2**62) + bytes(4),
    "a length beyond 63 bits": bytes([0x82, 0xFF]) + struct.pack(">Q", 2**63 + 1) + bytes(4),
    "half a frame": frame(Opcode.BINARY, bytes(1000))[:500],
    "no hello": frame(Opcode.TEXT, b"[]"),
    "deep": frame(Opcode.TEXT, b"[" * 5000),
    "numbers without end": frame(Opcode.TEXT, b'{"type": "hello", "protocol": ' + b"9" * 5000 + b"}"),
}


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with service("--max-sessions", "64") as made:
        made.line("Model")
        yield made


def leave(peer: socket.socket, end: str) -> None:
    """Go in one of the ways that there are."""
    if end == "reset":
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif end == "half-close":
        try:
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(65536):
                pass
        except OSError:
            pass  # the server was quicker
    peer.close()


async def sound(running: Service) -> None:
    """The server serves, and has reported nothing."""
    async with joined(running) as peer:
        assert (await peer.round(PICTURE)).verdict == "generated"
    assert "Traceback" not in running.errors()


@pytest.mark.parametrize("end", ENDS)
async def test_bytes_that_are_no_http(running: Service, end: str) -> None:
    with sockets(running.port) as attacker:
        for data in HTTP.values():
            leave(attacker.connect(data), end)
    await sound(running)


@pytest.mark.parametrize("end", ENDS)
async def test_handshakes_that_are_not_quite_right(running: Service, end: str) -> None:
    with sockets(running.port) as attacker:
        for data in variants(running.host).values():
            leave(attacker.connect(data), end)
    await sound(running)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("after", ["the handshake", "hello"])
async def test_frames_that_are_not_quite_right(running: Service, end: str, after: str) -> None:
    with sockets(running.port) as attacker:
        for data in FRAMES.values():
            peer = attacker.upgrade(frame(Opcode.TEXT, HELLO) if after == "hello" else b"")
            send(peer, data)
            leave(peer, end)
    await sound(running)


def cut(data: bytes, pieces: int) -> Iterator[bytes]:
    """Beginnings of `data`, each a little longer."""
    return (data[: len(data) * piece // pieces] for piece in range(pieces + 1))


@pytest.mark.parametrize("end", ("close", "reset"))
async def test_whoever_goes_at_any_moment(running: Service, end: str) -> None:
    whole = frame(Opcode.TEXT, HELLO) + frame(Opcode.BINARY, pack_frame(1, 0.0, "png", PICTURE)) * 3
    with sockets(running.port) as attacker:
        for beginning in cut(handshake(running.host), 8):
            leave(attacker.connect(beginning), end)
        for beginning in cut(whole, 12):
            leave(attacker.upgrade(beginning), end)
        for beginning in cut(GET + post("Content-Length: 5", body=b"abcde"), 8):
            leave(attacker.connect(beginning), end)
    await sound(running)


async def test_bytes_by_chance(running: Service) -> None:
    dice = random.Random(23)
    good = [
        handshake(running.host),
        GET,
        frame(Opcode.TEXT, HELLO),
        frame(Opcode.PING, b"x"),
        post("Content-Length: 3", body=b"abc"),
    ]

    def spoiled() -> bytes:
        data = bytearray(b"".join(dice.choices(good, k=3)))
        for _ in range(dice.randrange(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        return bytes(data)

    with sockets(running.port) as attacker:
        for number in range(120):
            peer = attacker.upgrade() if number % 2 else attacker.connect()
            send(peer, spoiled())
            leave(peer, dice.choice(("close", "reset")))
    await sound(running)


async def test_broken_pictures_are_reported_once_a_second_at_most(running: Service) -> None:
    """libpng and libjpeg write to the error stream from C, one line for every broken picture."""
    broken = bytearray(PICTURE)
    broken[len(broken) // 2] ^= 0xFF
    before = running.errors().count("\n")
    for _ in range(10):
        async with joined(running) as peer:
            for _ in range(10):
                await peer.round(bytes(broken))
    await sound(running)
    written = running.errors().splitlines()[before:]
    assert len([line for line in written if "libpng" in line]) < 20
    assert all("native library" in line for line in written if "libpng" in line)


async def test_without_a_trace_everything_is_given_back(running: Service) -> None:
    def descriptors() -> int:
        return running.descriptors()

    async with connected(running):
        held = descriptors()
    until(lambda: descriptors() < held, "descriptors come back")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    try:
        subprocess.run([*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("openssl makes the certificate")
    with service("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)) as running:
        running.line("Model")
        yield running


@pytest.mark.parametrize("end", ENDS)
def test_bytes_that_are_no_tls(secured: Service, end: str) -> None:
    descriptors = secured.descriptors()
    with sockets(secured.port) as attacker:
        for data in (*HTTP.values(), *variants(secured.host).values()):
            leave(attacker.connect(data), end)
    until(lambda: secured.descriptors() <= descriptors, "descriptors come back")
    assert "Traceback" not in secured.errors()
