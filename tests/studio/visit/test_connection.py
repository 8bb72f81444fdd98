"""One connection from hello to close, over a socket in memory: refusals, errors, silence, takeover, unread replies."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from studio.visit.connection import Connection
from studio.visit.hub import Hub
from studio.wire.limits import Limits
from studio.wire.protocol import Answer, pack_frame, parse_answer
from studio.wire.sockets import Disconnected
from tests.studio.harness import coloured
from tests.studio.visit.test_hub import hub_with

GREY = coloured(100, 100, 100)


class MemorySocket:
    """The server's end of a websocket. `reads` cleared: the client takes nothing."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self.outgoing: asyncio.Queue[str | bytes] = asyncio.Queue()
        self.reads = asyncio.Event()
        self.reads.set()
        self.closed: tuple[int, str] | None = None

    async def receive(self) -> str | bytes:
        message = await self.incoming.get()
        if message is None:
            raise Disconnected
        return message

    async def send(self, message: str | bytes) -> None:
        await self.reads.wait()
        self.outgoing.put_nowait(message)

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)


@dataclass
class Client:
    """The other end of a MemorySocket, and the connection that serves it."""

    hub: Hub
    must_show_token: bool = False
    socket: MemorySocket = field(default_factory=MemorySocket)
    next_id: int = 1

    def __post_init__(self) -> None:
        self.serving = asyncio.create_task(Connection(self.socket, self.hub, self.must_show_token).run())

    def text(self, kind: str, **values: Any) -> None:
        self.socket.incoming.put_nowait(json.dumps({"type": kind, **values}))

    def frame(self, picture: bytes = GREY) -> None:
        self.socket.incoming.put_nowait(pack_frame(self.next_id, self.hub.clock(), "png", picture))
        self.next_id += 1

    async def message(self, *kinds: str) -> dict[str, Any]:
        """The next text of one of these types."""
        while True:
            async with asyncio.timeout(20):
                found = await self.socket.outgoing.get()
            if isinstance(found, str) and (not kinds or json.loads(found)["type"] in kinds):
                return dict(json.loads(found))

    async def answer(self) -> Answer:
        while True:
            async with asyncio.timeout(20):
                found = await self.socket.outgoing.get()
            if isinstance(found, bytes):
                return parse_answer(found)

    async def ended(self) -> tuple[int, str]:
        async with asyncio.timeout(20):
            await self.serving
        assert self.socket.closed is not None
        return self.socket.closed


@contextlib.asynccontextmanager
async def hub_of(**limits: Any) -> AsyncIterator[Hub]:
    with hub_with(limits=Limits(**limits), token="secret") as hub:
        yield hub


async def welcomed(hub: Hub, **hello: Any) -> tuple[Client, dict[str, Any]]:
    client = Client(hub)
    client.text("hello", protocol=1, **hello)
    welcome = await client.message("welcome", "error")
    client.next_id = welcome.get("last_frame_id", 0) + 1
    return client, welcome


async def test_hello_frame_answer_bye() -> None:
    async with hub_of() as hub:
        client, welcome = await welcomed(hub, settings={"prompt": "red"}, picture={"format": "png"})
        assert welcome["settings"]["values"]["prompt"] == "red" and not welcome["resumed"] and hub.connections == 1
        client.frame()
        answer = await client.answer()
        assert (answer.verdict, answer.settled, answer.format) == ("generated", 1, "png")
        client.text("ping", t=4.5)
        assert (await client.message("pong"))["t"] == 4.5
        client.text("bye")
        assert await client.ended() == (1000, "") and hub.connections == 0 and len(hub.seats) == 0


@pytest.mark.parametrize(
    ("first", "close"),
    [
        (b"bytes", 4400),
        ("no json", 4400),
        ('{"type": "ping", "t": 1}', 4400),
        ('{"type": "hello", "protocol": 2}', 4400),
        ('{"type": "hello", "protocol": 1, "token": "wrong"}', 4401),
        ('{"type": "hello", "protocol": 1, "resume": "unknown"}', 4410),
        ('{"type": "hello", "protocol": 1, "settings": {"strength": 9}}', 4400),
        (None, 4408),
    ],
)
async def test_a_wrong_hello_is_answered_and_leaves_nothing_behind(first: str | bytes | None, close: int) -> None:
    async with hub_of(hello_s=0.05 if first is None else 5.0) as hub:
        client = Client(hub)
        if first is not None:
            client.socket.incoming.put_nowait(first)
        assert (await client.message("error"))["fatal"] is True
        assert (await client.ended())[0] == close
        assert len(hub.seats) == 0 and hub.connections == 0 and not hub._streams


async def test_a_client_without_a_login_needs_the_token() -> None:
    async with hub_of() as hub:
        stranger = Client(hub, must_show_token=True)
        stranger.text("hello", protocol=1)
        assert (await stranger.ended())[0] == 4401
        program = Client(hub, must_show_token=True)
        program.text("hello", protocol=1, token="secret")
        assert (await program.message("welcome", "error"))["type"] == "welcome"
        program.text("bye")
        await program.ended()


async def test_a_resuming_client_takes_over_and_gets_every_answer_from_then_on() -> None:
    async with hub_of() as hub:
        old, welcome = await welcomed(hub)
        old.frame()
        assert (await old.answer()).settled == 1
        old.socket.reads.clear()  # its writer is in the middle of a message when the other one comes
        old.text("ping", t=1.0)
        new, second = await welcomed(hub, resume=welcome["resume"])
        assert second["resumed"] and second["last_frame_id"] == 1
        for frame_id in (2, 3):
            new.frame()
            assert (await new.answer()).settled == frame_id
        old.socket.reads.set()
        assert (await old.ended())[0] == 4409
        left = [message for message in old.socket.outgoing._queue if isinstance(message, bytes)]  # type: ignore[attr-defined]
        assert left == [], "the old connection has answers of the new one"
        assert hub.seats.connected == 1
        new.text("bye")
        assert (await new.ended())[0] == 1000


async def test_after_a_resume_a_still_scene_is_drawn_again() -> None:
    async with hub_of() as hub:
        client, welcome = await welcomed(hub, settings={"gate.enabled": True, "gate.max_skip": 300})
        verdicts = []
        for _ in range(2):
            client.frame()
            verdicts.append((await client.answer()).verdict)
        assert verdicts == ["generated", "skipped"]
        client.socket.incoming.put_nowait(None)
        async with asyncio.timeout(20):
            await client.serving
        again, _ = await welcomed(hub, resume=welcome["resume"])
        again.frame()
        assert (await again.answer()).verdict == "generated", "this client has no picture yet"
        again.text("bye")
        await again.ended()


async def test_too_many_errors_end_the_connection() -> None:
    async with hub_of(errors_at_once=3) as hub:
        client, _ = await welcomed(hub)
        for _ in range(4):
            client.text("nonsense")
        assert (await client.ended()) == (4400, "bad_message")


@pytest.mark.parametrize(("limit", "close"), [({"ping_s": 10.0}, 4408), ({"idle_s": 30.0}, 4440)])
async def test_silence_ends_the_connection(limit: dict[str, float], close: int) -> None:
    async with hub_of(**({"telemetry_s": 0.01, "ping_s": 1e6, "idle_s": 1e6} | limit)) as hub:
        now = hub.clock()
        hub.clock = lambda: now
        client, _ = await welcomed(hub)
        await client.message("telemetry")
        now += 31.0
        assert (await client.ended())[0] == close


async def test_a_client_that_reads_no_replies_is_not_read_from_either() -> None:
    async with hub_of(texts_waiting=4) as hub:
        client, _ = await welcomed(hub)
        client.socket.reads.clear()
        for number in range(50):
            client.text("ping", t=float(number))
        for _ in range(200):
            await asyncio.sleep(0)
        assert client.socket.incoming.qsize() >= 50 - 4 - 3
        client.socket.reads.set()
        assert [(await client.message("pong"))["t"] for _ in range(50)] == [float(number) for number in range(50)]
        client.text("bye")
        await client.ended()


async def test_a_flood_ends_the_connection() -> None:
    async with hub_of(messages_per_s=5.0) as hub:
        client, _ = await welcomed(hub)
        for _ in range(30):
            client.text("ping", t=1.0)
        assert (await client.ended())[0] == 4429


async def test_a_client_that_is_gone_keeps_its_session_for_the_grace() -> None:
    async with hub_of() as hub:
        client, welcome = await welcomed(hub)
        client.socket.incoming.put_nowait(None)
        async with asyncio.timeout(20):
            await client.serving
        assert client.socket.closed is None and hub.seats.connected == 0 and len(hub.seats) == 1
        again, second = await welcomed(hub, resume=welcome["resume"])
        assert second["session"] == welcome["session"]
        again.text("bye")
        await again.ended()
