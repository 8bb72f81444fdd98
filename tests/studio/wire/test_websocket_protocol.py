"""The websocket below ASGI: what one read may cost, with a transport that only keeps what is written to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from studio.wire import websocket_protocol
from studio.wire.admission import Admission
from studio.wire.limits import Limits
from studio.wire.protocol import CLOSE_CODES
from studio.wire.websocket_protocol import CountedProtocol, WebSocketProtocol

LIMITS = Limits(frames_per_s=100, controls_per_s=1, controls_at_once=20, max_fragments=50)
READ = 256 * 1024
"""What asyncio's transport reads at once."""

TEXT, BINARY, CONT, PING, PONG, CLOSE = (Opcode(value) for value in (1, 2, 0, 9, 10, 8))


@dataclass
class Wire:
    """A transport."""

    written: bytearray = field(default_factory=bytearray)
    closing: bool = False
    reading: bool = True

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Opened:
    """A websocket that the application has accepted; `received` are the application's messages."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.received: list[dict[str, Any]] = []
        self.wire = Wire()
        config = uvicorn.Config(self.app, interface="asgi3", lifespan="off", ws_per_message_deflate=False, log_config=None)
        config.load()
        self.protocol = WebSocketProtocol(Admission(limits), config=config, server_state=ServerState(), app_state={})
        self.protocol.connection_made(self.wire)  # type: ignore[arg-type]
        self.client = ClientProtocol(parse_uri("ws://test/"))
        self.client.send_request(self.client.connect())
        self.protocol.data_received(b"".join(self.client.data_to_send()))

    async def app(self, scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            self.received.append(message)
        self.received.append(message)

    async def accepted(self) -> Opened:
        while not self.wire.written:
            await asyncio.sleep(0)
        self.answers()
        return self

    def answers(self) -> list[Any]:
        """What the peer has been sent since the last look: frames, or the handshake's answer."""
        data, self.wire.written = bytes(self.wire.written), bytearray()
        if data:
            self.client.receive_data(data)
        return self.client.events_received()


def frames(*kinds: tuple[Opcode, bytes, bool], size: int = READ) -> bytes:
    """These frames, masked, over and over until they are `size` bytes."""
    once = b"".join(Frame(opcode, data, fin).serialize(mask=True) for opcode, data, fin in kinds)
    return once * (size // len(once))


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Frame]]:
    """The frames that the parser has made."""
    found: list[Frame] = []
    counted = CountedProtocol.recv_frame

    def record(self: CountedProtocol, frame: Frame) -> None:
        found.append(frame)
        counted(self, frame)

    monkeypatch.setattr(CountedProtocol, "recv_frame", record)
    monkeypatch.setattr(websocket_protocol.time, "monotonic", lambda: 0.0)
    yield found


FLOODS = {
    "pings": frames((PING, b"", True)),
    "pings with payload": frames((PING, bytes(125), True)),
    "pongs": frames((PONG, b"", True)),
    "empty fragments": frames((BINARY, b"", False)) [:6] + frames((CONT, b"", False)),
    "tiny fragments": frames((TEXT, b"a", False))[:7] + frames((CONT, b"a", False)),
    "tiny messages": frames((TEXT, b"a", True)),
    "fragments of two kinds": frames((BINARY, b"", False), (CONT, b"", True)),
    "pings between fragments": frames((BINARY, b"", False))[:6] + frames((PING, b"", True), (CONT, b"", False)),
}  # fmt: skip


@pytest.mark.parametrize("kind", FLOODS)
async def test_one_read_costs_no_more_frames_than_the_limits_allow(kind: str, parsed: list[Frame]) -> None:
    opened = await Opened().accepted()
    assert len(FLOODS[kind]) > READ - 400
    opened.protocol.data_received(FLOODS[kind])
    assert len(parsed) <= LIMITS.frames_per_s + LIMITS.controls_at_once + 1
    *_, error, close = opened.answers()
    assert json.loads(error.data)["code"] == "flood" and close.opcode is CLOSE
    assert opened.client.close_rcvd is not None and opened.client.close_rcvd.code == CLOSE_CODES["flood"]
    before, opened.wire.reading = len(parsed), True
    opened.protocol.data_received(FLOODS[kind])  # what was on its way already
    assert len(parsed) == before


async def test_close_frames_repeated_are_one(parsed: list[Frame]) -> None:
    opened = await Opened().accepted()
    opened.protocol.data_received(frames((CLOSE, b"\x03\xe8", True)))
    assert len(parsed) == 1 and opened.wire.closing


async def test_pongs_wait_for_a_peer_that_does_not_read() -> None:
    opened = await Opened().accepted()
    opened.protocol.pause_writing()
    for number in range(10):
        opened.protocol.data_received(Frame(PING, bytes([number])).serialize(mask=True))
    assert opened.wire.written == b""
    opened.protocol.resume_writing()
    assert [bytes(frame.data) for frame in opened.answers()] == [bytes([9])]
    opened.protocol.data_received(Frame(PING, b"now").serialize(mask=True))
    assert [bytes(frame.data) for frame in opened.answers()] == [b"now"]


async def test_text_that_is_not_utf8_closes_with_1007(caplog: pytest.LogCaptureFixture) -> None:
    opened = await Opened().accepted()
    opened.protocol.data_received(Frame(TEXT, b"\xff\xfe").serialize(mask=True))
    opened.answers()
    assert opened.client.close_rcvd is not None and opened.client.close_rcvd.code == 1007
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("early", [Frame(PING, b"x"), Frame(CLOSE, b""), Frame(Opcode.TEXT, b"\xff"), Frame(CONT, b"")])
async def test_frames_before_the_handshake_is_answered_wait(early: Frame) -> None:
    opened = Opened()
    assert not opened.wire.reading and opened.wire.written == b""
    await opened.accepted()
    assert opened.wire.reading
    opened.protocol.data_received(early.serialize(mask=True))
    assert opened.wire.written or opened.wire.closing


async def test_a_handshake_that_cannot_be_parsed_ends() -> None:
    opened = await Opened().accepted()
    for bad in (b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"):
        wire = Wire()
        protocol = WebSocketProtocol(Admission(LIMITS), config=opened.protocol.config, server_state=ServerState(), app_state={})
        protocol.connection_made(wire)  # type: ignore[arg-type]
        protocol.data_received(bad)
        assert wire.closing


async def test_the_end_of_the_server_in_every_state_of_closing() -> None:
    for sent in (b"", Frame(CLOSE, b"").serialize(mask=True), Frame(Opcode.TEXT, b"\xff").serialize(mask=True), FLOODS["pings"]):
        opened = await Opened().accepted()
        opened.protocol.data_received(sent) if sent else None
        opened.protocol.shutdown()
        assert opened.wire.closing
