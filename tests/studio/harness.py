"""A real server on a loopback socket with the fake engine, and a small client for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import uvicorn
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from pipelines import Settings, StreamSpec
from studio.cli.run_server import websocket_options
from studio.cli.serve_options import listen
from studio.model.change import ChangeRule
from studio.pictures import codec
from studio.visit.config import ServerConfig
from studio.visit.hub import Hub
from studio.web.server import create_app
from studio.wire import protocol
from studio.wire.admission import Admission
from studio.wire.limits import Limits
from studio.wire.listener import Listener
from studio.wire.origin import AddressRule
from studio.wire.protocol import Answer, PictureEncoding
from tests.studio.fake import FakePipeline

TOKEN = "a-token-for-the-tests"
SIZE = 128
PATIENCE_MS = 60_000.0


class Running:
    """One server in a thread. `pipeline` is its fake engine, `hub` its hub."""

    def __init__(
        self,
        limits: Limits,
        rule: AddressRule,
        factory: Callable[[StreamSpec], Any] | None = None,
        with_page: bool = False,
        changes: ChangeRule | None = None,
        backend: str = "auto",
        dtype: str = "auto",
        devices: tuple[str, ...] = (),
        opening: Settings | None = None,
        metrics: bool = False,
        public: bool = True,
        users: Mapping[str, str] | None = None,
        fit_share: float = 0.0,
        watch_waiting: bool = False,
        **fake: Any,
    ) -> None:
        if limits.max_age_ms == Limits().max_age_ms:  # on a busy machine frames of most tests take longer than that
            limits = replace(limits, max_age_ms=PATIENCE_MS)
        spec = StreamSpec(width=SIZE, height=SIZE, backend=backend, dtype=dtype)
        self.pipeline = FakePipeline(spec, **fake)
        self._listeners = [listen("127.0.0.1", 0) for _ in range(2 if metrics else 1)]
        self.port, self.metrics_port = (listener.getsockname()[1] for listener in (self._listeners * 2)[:2])
        config = ServerConfig(
            spec,
            limits,
            rule,
            TOKEN,
            changes or ChangeRule(),
            devices=devices,
            opening=opening or Settings(),
            metrics_port=self.metrics_port if metrics else None,
            public=public,
            users=users or {},
            fit_share=fit_share,
            watch_waiting=watch_waiting,
        )
        app = create_app(config, factory or (lambda spec: self.pipeline), with_page=with_page)
        self.app = app
        self.hub: Hub = app.state.hub
        self.admission = Admission(limits)
        self._listeners[0] = Listener.adopt(self._listeners[0], self.admission)
        self.host = f"127.0.0.1:{self.port}"
        options: Any = websocket_options(limits, self.admission)
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", proxy_headers=False, **options))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": self._listeners})

    def start(self) -> None:
        self._thread.start()
        until = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < until and self._thread.is_alive(), "the server does not start"
            time.sleep(0.005)

    def stop(self) -> None:
        self.pipeline.hold.set()
        self._server.should_exit = True
        self._thread.join(20)
        for listener in self._listeners:
            listener.close()
        assert not self._thread.is_alive(), "the server does not stop"


@contextlib.contextmanager
def serving(
    limits: Limits | None = None, rule: AddressRule | None = None, factory: Callable[[StreamSpec], Any] | None = None, **fake: Any
) -> Iterator[Running]:
    running = Running(limits or Limits(), rule or AddressRule(), factory, **fake)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def coloured(*rgb: int, form: str = "png", size: int = SIZE) -> bytes:
    """A picture of one colour, encoded."""
    return codec.encode(np.full((size, size, 3), rgb, np.uint8), PictureEncoding(form, 95))


RED, GREEN, BLUE, GREY = coloured(200, 0, 0), coloured(0, 200, 0), coloured(0, 0, 200), coloured(100, 100, 100)


class Peer:
    """A client that stores every received message in `answers` or `texts`."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.welcome: dict[str, Any] = {}
        self.answers: list[Answer] = []
        self.texts: list[dict[str, Any]] = []
        self.next_id = 1

    async def send(self, kind: str, **values: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **values}))

    async def receive(self) -> dict[str, Any] | Answer:
        async with asyncio.timeout(10):  # wait_for may swallow a cancellation when a message comes with it (Python 3.11)
            message = await self.socket.recv()
        if isinstance(message, bytes):
            self.answers.append(protocol.parse_answer(message))
            return self.answers[-1]
        self.texts.append(json.loads(message))
        return self.texts[-1]

    async def next_text(self, *kinds: str) -> dict[str, Any]:
        """The next text message of one of these types; earlier messages are stored."""
        while True:
            message = await self.receive()
            if isinstance(message, dict) and message["type"] in kinds:
                return message

    async def next_answer(self) -> Answer:
        while True:
            message = await self.receive()
            if isinstance(message, Answer):
                return message

    async def send_frame(self, picture: bytes = b"", form: str = "png", captured_at: float | None = None) -> int:
        frame_id, self.next_id = self.next_id, self.next_id + 1
        now = time.monotonic() if captured_at is None else captured_at
        await self.socket.send(protocol.pack_frame(frame_id, now, form if picture else "none", picture))
        return frame_id

    async def round(self, picture: bytes = b"", form: str = "png") -> Answer:
        """One frame, and the answer that settles it."""
        frame_id = await self.send_frame(picture, form)
        while (answer := await self.next_answer()).settled < frame_id:
            pass
        return answer

    async def change(self, picture: bytes, frames: int = 10, **spec: object) -> tuple[dict[str, Any], list[Answer]]:
        """Request another spec and send so many frames meanwhile; the server's reply, and the answers to the frames before it.

        More frames would only compete with the build for the processor.
        """
        self.texts.clear()
        await self.send("spec", spec=spec, request=5)
        before: list[Answer] = []
        for _ in range(frames):
            answer = await self.round(picture)
            for text in self.texts:
                if text["type"] in ("spec", "error"):
                    return text, before
            if answer.format != "none":
                before.append(answer)
        return await self.next_text("spec", "error"), before

    async def shown(self, picture: bytes) -> NDArray[np.int64]:
        """The server's result for this picture. It is sent again after a drop, which can happen on a busy machine."""
        while (answer := await self.round(picture)).format == "none":
            pass
        return seen(answer)

    async def closed(self) -> tuple[int, str]:
        """Read until the connection closes; the close code and reason."""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionClosedError):
                async for message in self.socket:
                    if isinstance(message, str):
                        self.texts.append(json.loads(message))
        return self.socket.close_code or 0, self.socket.close_reason or ""


def seen(answer: Answer) -> NDArray[np.int64]:
    """The picture of an answer."""
    return codec.read(memoryview(answer.picture), answer.format, Limits()).astype(int)


def colour(answer: Answer) -> tuple[int, int, int]:
    """The mean colour of an answer's picture."""
    assert answer.format != "none", answer
    pixels = codec.decode(memoryview(answer.picture), answer.format, SIZE, SIZE, Limits())
    red, green, blue = pixels.reshape(-1, 3).mean(axis=0).round().astype(int)
    return int(red), int(green), int(blue)


@contextlib.asynccontextmanager
async def connected(
    running: Running, *, origin: str | None = "own", headers: dict[str, str] | None = None, **options: Any
) -> AsyncIterator[Peer]:
    """A socket without hello. origin "own" is the server's, None none."""
    settings: dict[str, Any] = {"subprotocols": [protocol.SUBPROTOCOL], "compression": None, "proxy": None, "max_size": None}
    settings |= {"additional_headers": headers or {}, "origin": f"http://{running.host}" if origin == "own" else origin}
    async with connect(f"ws://{running.host}{protocol.PATH}", **(settings | options)) as websocket:
        yield Peer(websocket)


@contextlib.asynccontextmanager
async def joined(running: Running, **hello: Any) -> AsyncIterator[Peer]:
    """A peer after its welcome, by default with PNG answers."""
    async with connected(running) as peer:
        await peer.send("hello", **({"protocol": 1, "picture": {"format": "png"}} | hello))
        peer.welcome = await peer.next_text("welcome", "error")
        assert peer.welcome["type"] == "welcome", peer.welcome
        peer.next_id = peer.welcome["last_frame_id"] + 1
        yield peer
