"""Everything that must be refused is refused, and the server streams on for other clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pipelines import StreamSpec
from studio.wire import protocol
from studio.wire.limits import Limits
from studio.wire.origin import AddressRule, Origin
from tests.studio.fake import FakePipeline
from tests.studio.harness import SIZE, TOKEN, Running, coloured, connected, joined, serving

GREY = coloured(90, 90, 90)
LIMITS = Limits(hello_s=2.0, messages_per_s=200, bytes_per_s=2e6, errors_at_once=5, max_frame_bytes=300_000, max_sessions=8)
ALLOWED = Origin("https", "friend.example", 443)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(LIMITS, AddressRule(allowed=(ALLOWED,))) as server:
        yield server


@pytest.fixture(autouse=True)
async def witness(running: Running) -> AsyncIterator[None]:
    """A second client that streams before and after every refusal, on the same connection, and once on a new one."""
    async with joined(running) as peer:
        assert (await peer.round(GREY)).verdict == "generated"
        yield
        answer = await peer.round(GREY)
        assert answer.verdict == "generated" and not any(text["type"] == "error" for text in peer.texts)
    async with joined(running) as late:
        assert (await late.round(GREY)).verdict == "generated"
    for _ in range(100):  # the witness's own connections take a moment to be counted out
        if running.hub.connections == 0:
            break
        await asyncio.sleep(0.01)
    assert running.hub.connections == 0


async def refused(running: Running, status: int, **options: object) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with connected(running, **options):  # type: ignore[arg-type]
            pass
    assert caught.value.response.status_code == status


# Who may connect.


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://evil.example",
        "http://127.0.0.1",
        "https://127.0.0.1:{port}",
        "http://127.0.0.1:{port}.evil.example",
        "http://127.0.0.1:{port}@evil.example",
        "http://evil.example/127.0.0.1:{port}",
        "http://localhost:{port}",
        "http://127.0.0.1:{port}/",
        "http://xn--127.0.0.1:{port}",
        "http://friend.example",
        "https://friend.example.evil.example",
        "https://notfriend.example",
        "https://friend.example:444",
        "file://",
        "",
    ],
)
async def test_foreign_null_and_look_alike_origins(running: Running, origin: str) -> None:
    await refused(running, 403, origin=origin.format(port=running.port))


async def test_two_origins(running: Running) -> None:
    await refused(running, 400, headers={"Origin": "https://evil.example"})


async def test_a_listed_origin_is_welcome(running: Running) -> None:
    async with connected(running, origin="https://friend.example") as peer:
        await peer.send("hello", protocol=1)
        assert (await peer.next_text("welcome", "error"))["type"] == "welcome"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost:{port}@evil.example", ""])
async def test_foreign_hosts_dns_rebinding(running: Running, host: str) -> None:
    # The page of a name that was pointed at this machine has an Origin equal to its Host.
    host = host.format(port=running.port)
    with contextlib.suppress(ConnectionError):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        request = f"GET {protocol.PATH} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
        request += "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        request += f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Protocol: rill.v1\r\n\r\n"
        writer.write(request.encode())
        assert b" 400 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://{running.host}/healthz", headers={"Host": host or "x y"})
        assert answer.status_code == 400


async def test_forwarded_headers_are_not_believed_without_trusted_proxy(running: Running) -> None:
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    await refused(running, 403, origin="https://evil.example", headers=headers)


async def test_no_subprotocol(running: Running) -> None:
    await refused(running, 400, subprotocols=None)
    await refused(running, 400, subprotocols=["rill.v2"])


async def test_no_origin_needs_the_token(running: Running) -> None:
    for hello in ({}, {"token": ""}, {"token": TOKEN + "x"}, {"token": TOKEN[:-1]}, {"token": "\ud800"}):
        async with connected(running, origin=None) as peer:
            await peer.send("hello", protocol=1, **hello)
            assert await peer.closed() == (4401, "unauthorized")
            assert peer.texts[-1]["field"] == "token" and TOKEN not in json.dumps(peer.texts)
    async with connected(running, origin=None) as peer:
        await peer.send("hello", protocol=1, token=TOKEN)
        assert (await peer.next_text("welcome", "error"))["type"] == "welcome"


async def test_a_wrong_token_is_wrong_with_an_origin_too(running: Running) -> None:
    async with connected(running) as peer:
        await peer.send("hello", protocol=1, token="guess")
        assert await peer.closed() == (4401, "unauthorized")


async def test_a_token_in_the_url_is_no_token(running: Running) -> None:
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        from websockets.asyncio.client import connect

        url = f"ws://{running.host}{protocol.PATH}?token={TOKEN}"
        async with connect(url, subprotocols=["rill.v1"], proxy=None) as socket:  # type: ignore[list-item]
            await socket.send('{"type": "hello", "protocol": 1}')
            while True:
                await socket.recv()


# How to begin.


async def test_silence_instead_of_hello(running: Running) -> None:
    async with connected(running) as peer:
        assert await peer.closed() == (4408, "timeout")


@pytest.mark.parametrize(
    "message",
    [
        b"\x52\x01\x01\x00" + bytes(12),
        "not json",
        '{"type": "settings", "patch": {}}',
        '{"type": "hello"}',
        '{"type": "hello", "protocol": 1, "surprise": 1}',
        '{"type": "hello", "protocol": 1, "settings": {"prompt": 5}}',
        '{"type": "hello", "protocol": 1, "settings": {"no.such": 5}}',
        "[" * 30_000,
    ],
)
async def test_a_wrong_hello(running: Running, message: str | bytes) -> None:
    async with connected(running) as peer:
        await peer.socket.send(message)
        code, _ = await peer.closed()
        assert code == 4400 and peer.texts[-1]["fatal"] and peer.texts[-1]["message"]


# What to send.


async def complains(running: Running, message: str | bytes, code: str) -> str:
    """The connection reports what is wrong, and stays open."""
    async with joined(running) as peer:
        await peer.socket.send(message)
        error = await peer.next_text("error")
        assert error["code"] == code and not error["fatal"]
        peer.next_id = 1000
        assert (await peer.round(GREY)).verdict == "generated"
        return str(error["message"])


def png_claiming(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data = zlib.compress(bytes(1000))
    body = b"IDAT" + data
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


async def test_a_header_of_100_megapixels(running: Running) -> None:
    assert "10000x10000" in await complains(running, protocol.pack_frame(5, 0.0, "png", png_claiming(10000, 10000)), "bad_frame")
    jpeg = bytearray(coloured(1, 2, 3, form="jpeg"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 10000, 10000)
    assert "10000x10000" in await complains(running, protocol.pack_frame(5, 0.0, "jpeg", bytes(jpeg)), "bad_frame")


@pytest.mark.parametrize("form", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
async def test_truncated_pictures(running: Running, form: str, share: float) -> None:
    import cv2
    import numpy as np

    pixels = np.random.default_rng(1).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    picture = cv2.imencode(f".{form}", pixels)[1].tobytes()
    await complains(running, protocol.pack_frame(5, 0.0, form, picture[: int(len(picture) * share)]), "bad_frame")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("a frame, honestly", "bad_message"),
        ('{"type": "frame"}', "bad_message"),
        ('{"type": "settings", "patch": {"prompt": "x"}, "force": true}', "bad_message"),
        ('{"type": "settings", "patch": {"unet": 1}}', "bad_settings"),
        ('{"type": "hello", "protocol": 1}', "bad_message"),
        (b"", "bad_frame"),
        (b'{"type": "ping", "t": 1}', "bad_frame"),
        (protocol.pack_frame(5, 0.0, "png", b"nonsense"), "bad_frame"),
        (protocol.pack_frame(5, 0.0, "jpeg", GREY), "bad_frame"),
        (protocol.pack_frame(5, float("nan"), "png", GREY), "bad_frame"),
        (protocol.pack_frame(0, 0.0, "png", GREY), "bad_frame_id"),
    ],
)
async def test_wrong_messages(running: Running, message: str | bytes, code: str) -> None:
    await complains(running, message, code)


async def test_an_id_that_does_not_rise(running: Running) -> None:
    async with joined(running) as peer:
        await peer.round(GREY)
        peer.next_id = 1
        await peer.send_frame(GREY)
        assert (await peer.next_text("error"))["code"] == "bad_frame_id"
        assert (await peer.round(GREY)).settled == 2


async def test_too_many_errors_end_the_connection(running: Running) -> None:
    async with joined(running) as peer:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(50):
                await peer.socket.send("nonsense")
        assert await peer.closed() == (4400, "bad_message")


async def test_too_many_bad_pictures_end_the_connection(running: Running) -> None:
    async with joined(running) as peer:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(20):
                await peer.send_frame(b"no picture at all")
                await peer.next_answer()
        assert await peer.closed() == (4400, "bad_message")


async def test_an_oversized_message(running: Running) -> None:
    async with joined(running) as peer:
        with contextlib.suppress(ConnectionClosed):
            await peer.socket.send(bytes(LIMITS.max_frame_bytes + 100))
        assert (await peer.closed())[0] == 1009


async def test_an_oversized_text(running: Running) -> None:
    await complains(running, json.dumps({"type": "settings", "patch": {"prompt": "x" * 40_000}}), "bad_message")


async def test_a_flood_of_messages(running: Running) -> None:
    async with joined(running) as peer:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(3000):
                await peer.send("ping", t=1)
        assert await peer.closed() == (4429, "flood")


async def test_a_flood_of_bytes(running: Running) -> None:
    big = protocol.pack_frame(1, 0.0, "png", bytes(250_000))
    async with joined(running) as peer:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(60):
                await peer.socket.send(big)
        assert (await peer.closed())[0] in (4400, 4429)


async def test_a_flood_of_frames_beyond_the_credit(running: Running) -> None:
    async with joined(running) as peer:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(3000):
                await peer.send_frame(GREY)
        assert await peer.closed() == (4429, "flood")


async def test_a_flood_of_connections() -> None:
    """While the model loads there are no places yet, and every client waits after its hello."""
    loaded, pipeline = threading.Event(), FakePipeline(StreamSpec(width=SIZE, height=SIZE))

    def load(spec: StreamSpec) -> FakePipeline:
        assert loaded.wait(60)
        return pipeline

    with serving(Limits(max_sessions=1, hello_s=60.0), factory=load) as other:
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(loaded.set)
            first = await stack.enter_async_context(connected(other))
            await first.send("hello", protocol=1)
            for _ in range(other.hub.max_connections - 1):
                peer = await stack.enter_async_context(connected(other))
                await peer.send("hello", protocol=1)
            last = await stack.enter_async_context(connected(other))
            await last.send("hello", protocol=1)
            assert (await last.closed())[0] == 4503
            loaded.set()
            assert (await first.next_text("welcome", "error"))["type"] == "welcome"


async def test_sockets_without_hello_take_no_place() -> None:
    limits = Limits(max_sessions=1, max_before_hello=8, hello_s=60.0)
    with serving(limits) as other:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(other.hub.max_connections + 1):
                await stack.enter_async_context(connected(other))
            assert other.admission.unproven <= 8
            await stack.enter_async_context(joined(other))


async def test_a_peer_that_vanishes(running: Running) -> None:
    async with joined(running) as peer:
        await peer.send_frame(GREY)
        peer.socket.transport.abort()


async def test_silent_and_idle_sessions_make_room() -> None:
    with serving(replace(LIMITS, ping_s=0.1, telemetry_s=0.05)) as quick:
        async with joined(quick) as peer:
            assert await peer.closed() == (4408, "timeout")
    with serving(replace(LIMITS, idle_s=0.3, telemetry_s=0.05)) as quick:
        async with joined(quick) as peer:
            await peer.send("ping", t=1)
            assert await peer.closed() == (4440, "idle")


async def test_a_trusted_proxy_is_believed() -> None:
    with serving(LIMITS, AddressRule(hosts=("*",), trusted_proxy=True)) as proxied:
        headers = {"X-Forwarded-Host": "studio.example", "X-Forwarded-Proto": "https"}
        async with connected(proxied, origin="https://studio.example", headers=headers) as peer:
            await peer.send("hello", protocol=1)
            assert (await peer.next_text("welcome", "error"))["type"] == "welcome"
        await refused(proxied, 403, origin="https://evil.example", headers=headers)


async def test_security_headers(running: Running) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        headers = (await client.get(f"http://{running.host}/healthz")).headers
    assert headers["x-content-type-options"] == "nosniff" and "camera=(self)" in headers["permissions-policy"]
    policy = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self' https://friend.example"
    assert headers["content-security-policy"] == policy


async def test_nothing_is_compressed(running: Running) -> None:
    async with connected(running, compression="deflate") as peer:
        assert peer.socket.response is not None and "Sec-WebSocket-Extensions" not in peer.socket.response.headers
        await peer.send("hello", protocol=1)
        await peer.next_text("welcome")
