"""No message and no request makes the server write a traceback: what a visitor sends wrong is the visitor's mistake."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from pipelines import FIELDS, StreamSpec
from studio.model.change import CHANGEABLE, ChangeRule, merged_spec
from studio.wire import websocket_protocol
from studio.wire.limits import Limits
from studio.wire.protocol import ProtocolError
from tests.studio.fake import FakePipeline
from tests.studio.harness import TOKEN, Running, connected, joined, serving

MANY = Limits(errors_at_once=1e6, errors_per_s=1e6, messages_per_s=1e6, max_sessions=8)

TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "~",
            "~root",
            "/",
            "..",
            "a" * 256,
            "/" + "b" * 256,
            "a/" * 200,
            "pocket+" + "c" * 300,
            "\0",
            "\ud800",
            "\udcff",
            "+",
            ":",
        ]
    ),
    st.text(st.characters(codec="utf-8"), min_size=200, max_size=420),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
LORAS = st.lists(st.fixed_dictionaries({"name": TEXTS | VALUES}, optional={"weight": VALUES}) | VALUES, max_size=4)
SPECS = st.one_of(
    st.fixed_dictionaries({"model": TEXTS}),
    st.fixed_dictionaries({"loras": LORAS}),
    st.dictionaries(st.sampled_from(CHANGEABLE) | TEXTS, VALUES, max_size=4),
)
HELLOS = st.fixed_dictionaries(
    {},
    optional={
        "protocol": st.just(1) | VALUES,
        "token": st.just(TOKEN) | VALUES,
        "resume": VALUES,
        "settings": st.dictionaries(st.sampled_from(sorted(FIELDS)) | TEXTS, VALUES, max_size=3) | VALUES,
        "picture": st.dictionaries(st.sampled_from(["format", "quality"]) | TEXTS, VALUES, max_size=3) | VALUES,
        "wait": VALUES,
        "client": VALUES,
        "surprise": VALUES,
    },
)
PATIENT = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Tracebacks(logging.Handler):
    """Keeps what is logged with a traceback, or as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(websocket_protocol, "LINGER_S", 0.05)  # after a failure; each example ends with one
        with serving(
            MANY, changes=ChangeRule("alone", (tmp_path_factory.mktemp("models"),)), with_page=True, factory=FakePipeline
        ) as server:
            yield server


@pytest.fixture(autouse=True)
def quiet(running: Running) -> Iterator[None]:
    """No traceback and no error in any log until the test is over."""
    handler = Tracebacks()
    loggers = [logging.getLogger(name) for name in ("", "rill", "uvicorn.error", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    yield
    for logger in loggers:
        logger.removeHandler(handler)
    assert handler.found == []


@given(SPECS)
def test_a_wish_for_another_spec_is_refused_in_words(changes: dict[str, object]) -> None:
    rule = ChangeRule("alone", (Path(__file__).parent,), (Path(__file__).parent,))
    with contextlib.suppress(ProtocolError):
        merged_spec(StreamSpec(), changes, rule.allows, rule.allows_lora)


@pytest.mark.parametrize("model", ["a" * 256, "/" + "a" * 256, "x/" * 199, "\udcff", "loop"])
def test_a_name_that_no_file_can_have_is_no_model(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    assert not ChangeRule("alone", (tmp_path,)).allows(model)


async def _send(running: Running, messages: Sequence[str | bytes], text: bool | None = None) -> None:
    """One connection: a hello, these messages, a ping; read until the pong or the end."""
    async with joined(running) as peer:
        with contextlib.suppress(ConnectionClosed):
            for message in messages:
                await peer.socket.send(message, text=text)
            await peer.send("ping", t=1)
            await peer.next_text("pong")


@PATIENT
@given(st.lists(SPECS.map(lambda spec: json.dumps({"type": "spec", "spec": spec})), max_size=4))
def test_spec_messages(running: Running, messages: list[str]) -> None:
    asyncio.run(_send(running, messages))


@PATIENT
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3))
def test_text_that_is_not_utf_8(running: Running, messages: list[bytes]) -> None:
    asyncio.run(_send(running, messages, text=True))


async def _hello(running: Running, hello: dict[str, Any]) -> None:
    async with connected(running) as peer, asyncio.timeout(20):
        await peer.socket.send(json.dumps({"type": "hello", **hello}))
        with contextlib.suppress(ConnectionClosed):
            if (await peer.next_text("welcome", "error"))["type"] == "welcome":
                await peer.send("bye")
            await peer.closed()


@PATIENT
@given(HELLOS)
def test_hellos(running: Running, hello: dict[str, Any]) -> None:
    asyncio.run(_hello(running, hello))


@contextlib.asynccontextmanager
async def raw(running: Running) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _request(running: Running, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    async with raw(running) as (reader, writer), asyncio.timeout(20):
        lines = [b"GET " + target + b" HTTP/1.1", b"Host: " + running.host.encode(), b"Connection: close"]
        writer.write(b"\r\n".join([*lines, *(name + b": " + value for name, value in headers), b"", b""]))
        with contextlib.suppress(ConnectionError):
            await reader.readline()


QUERIES = st.one_of(
    st.binary(max_size=30),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from([b"%ff%fe", b"%ed%a0%80"]),
)
TARGETS = st.sampled_from(
    [
        b"/rill/view.mjpeg?token=",
        b"/?deep_link=",
        b"/?__theme=",
        b"/?page=",
        b"/healthz?",
        b"/rill/stream?at=",
        b"/rill/client/",
        b"/theme.css?v=",
    ]
)
HEADERS = st.sampled_from(
    [
        b"Origin",
        b"X-Rill-Resume",
        b"Authorization",
        b"Cookie",
        b"X-Forwarded-Host",
        b"Accept-Language",
        b"Range",
        b"If-None-Match",
        b"Upgrade",
    ]
)


@PATIENT
@given(TARGETS, QUERIES, st.lists(st.tuples(HEADERS, st.binary(max_size=20)), max_size=2))
def test_queries_and_headers(running: Running, target: bytes, query: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    asyncio.run(_request(running, target + query, headers))


async def test_a_handshake_that_is_cut_off(running: Running) -> None:
    lines = ["GET /rill/stream HTTP/1.1", f"Host: {running.host}", f"Origin: http://{running.host}", "Upgrade: websocket"]
    lines += ["Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {'A' * 22}=="]
    head = "\r\n".join([*lines, "Sec-WebSocket-Protocol: rill.v1", "", ""])
    for cut in (10, 60, len(head) - 2, len(head)):
        async with raw(running) as (_, writer):
            writer.write(head[:cut].encode())
            await writer.drain()
    async with joined(running) as peer:
        await peer.send("ping", t=1)
        await peer.next_text("pong")
