"""A client in Python with the browser's abilities, and a command that streams a file through a running studio.

async with StudioClient("http://127.0.0.1:7860", token=token, settings={"prompt": "oil painting"}) as client:
    await client.frame(pixels)              # waits until there is credit
    shown = await client.shown()            # the next answer, decoded

python -m studio.client URL INPUT OUTPUT [--pace max|source] [--prompt TEXT] [--set KEY=VALUE] [--mask PICTURE] [--token TOKEN]
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import random
import ssl
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from pipelines import Mask, Pixels
from studio.client.address import StudioError, stream_url
from studio.client.decoded_answer import DecodedAnswer
from studio.client.handshake import Handshake
from studio.client.pace import Pace
from studio.pictures import codec
from studio.wire import protocol
from studio.wire.limits import Limits
from studio.wire.protocol import Answer, PictureEncoding, ProtocolError

RETRY_CODES = (1001, 1006, 1011, 1012, 4408, 4503)
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
ANSWERS_WAITING = 8


class StudioClient:
    """One session on a server. Reconnects by itself when the connection breaks, and resumes the session. Where that is no
    longer kept (a server that has restarted, another one behind the same address) it begins a new one with the settings, mask
    and picture prompt that stood last.

    token: needed, unless `origin` names a page the server accepts, or the same user runs the server on this machine: then it is
    found (studio/wire/token_file.py). settings: dotted key → value. delivery: "newest" for a live picture, "every" where no frame
    may be replaced by a newer one. Raises StudioError from `async with`, and from every method
    once the session is lost for good.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        settings: Mapping[str, object] | None = None,
        picture: PictureEncoding | None = None,
        origin: str | None = None,
        tls: ssl.SSLContext | None = None,
        reconnects: int = 5,
        delivery: str = "newest",
    ) -> None:
        self.url = stream_url(url)
        self.welcome: dict[str, Any] = {}
        self.telemetry: dict[str, Any] = {}
        self.fit: dict[str, Any] = {}  # the last `fit` message of the server
        self.errors: list[dict[str, Any]] = []
        self._settings, self._reconnects, self._delivery = dict(settings or {}), reconnects, delivery
        self._encoding = picture or PictureEncoding()
        self._handshake = Handshake(self.url, token, origin, tls, self._encoding, delivery)
        self._next_id, self._settled = 1, 0
        self._pace = Pace()
        self._room = asyncio.Event()
        self._answers: asyncio.Queue[Answer | None] = asyncio.Queue(ANSWERS_WAITING)
        self._painted: dict[str, bytes] = {}
        self._requests: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._captured: dict[int, float] = {}
        self._failure: StudioError | None = None
        self._socket: ClientConnection | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._connect(None)
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._ping())]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._socket is not None:
            with contextlib.suppress(ConnectionClosed):
                await self._socket.send(protocol.pack_text("bye"))
            await self._socket.close()

    # What a user does.

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels that the stream works in."""
        return self.welcome["spec"]["width"], self.welcome["spec"]["height"]

    @property
    def values(self) -> dict[str, Any]:
        """The settings as the server last sent them."""
        return dict(self.welcome["settings"]["values"])

    @property
    def understood(self) -> dict[str, list[dict[str, Any]]]:
        """How the prompts were read: the lists understood, unknown and cut of docs/protocol-messages.md."""
        return {name: list(self.welcome["settings"].get(name, ())) for name in ("understood", "unknown", "cut")}

    @property
    def settled(self) -> int:
        """All frames up to this id are done with."""
        return self._settled

    @property
    def sent(self) -> int:
        """The id of the frame sent last; 0 before the first."""
        return self._next_id - 1

    @property
    def room(self) -> bool:
        """May a frame be sent now: is there credit for it, and is the session's turn near?"""
        return self._delay == 0.0

    @property
    def _delay(self) -> float:
        unsettled, credit = self.sent - self._settled, self.welcome["limits"]["credit"]
        if self._delivery == "every":
            return 0.0 if unsettled < credit else math.inf
        return self._pace.delay(unsettled, credit, time.monotonic())

    async def frame(self, pixels: Pixels | None) -> int:
        """Send uint8 pixels [H, W, 3], or None for a picture from the prompt alone; waits for credit, and while others have their
        turns (studio/client/pace.py). Returns the frame's id.

        The picture is taken to be as new as the moment when it may leave. Where it is not to age while it waits here, take it
        when `room` is true.
        """
        started = time.monotonic()
        picture, form = b"", "none"
        if pixels is not None:
            picture, form = await asyncio.to_thread(codec.encode, pixels, self._encoding), self._encoding.format
        encoding = time.monotonic() - started
        while (delay := self._delay) > 0.0:
            self._check()
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                # Not asyncio.wait_for: in Python 3.11 it loses a cancellation that comes together with the event.
                async with asyncio.timeout(None if math.isinf(delay) else delay):
                    await self._room.wait()
        self._check()
        frame_id, self._next_id = self._next_id, self._next_id + 1
        # The picture counts as captured when there was room for it, had encoding begun just then.
        self._captured[frame_id] = captured_at = time.monotonic() - encoding
        self._pace.sent(frame_id - 1 - self._settled, captured_at)
        with contextlib.suppress(ConnectionClosed):  # the reader deals with that; this frame is lost
            await self._live().send(protocol.pack_frame(frame_id, captured_at, form, picture))
        return frame_id

    async def shown(self) -> DecodedAnswer:
        """The next answer, decoded. Raises StudioError when the session is lost."""
        answer = await self._answers.get()
        if answer is None:
            self._answers.put_nowait(None)
            raise self._failure or StudioError("the session has ended")
        pixels = None
        if answer.format != "none":
            pixels = await asyncio.to_thread(codec.read, memoryview(answer.picture), answer.format, Limits())
        captured_at = self._captured.get(answer.frame_id, answer.captured_at)
        for frame_id in [frame_id for frame_id in self._captured if frame_id < answer.frame_id - 64]:
            del self._captured[frame_id]
        return DecodedAnswer(answer, pixels, (time.monotonic() - captured_at) * 1000)

    async def patch(self, changes: Mapping[str, object]) -> dict[str, Any]:
        """Change settings; returns all of them as they now stand. Raises StudioError bad_settings."""
        message = await self._ask(lambda request: protocol.pack_text("settings", patch=dict(changes), request=request))
        return dict(message["values"])

    async def change(self, **changes: object) -> dict[str, Any]:
        """Change the stream's spec for all clients of the server: the fields of a `spec` message (docs/protocol-messages.md).

        Returns the whole new spec; pictures that `shown` gives from then on have its size. Waits for as long as the new pipeline
        is being built, ten minutes at most; frames may be sent meanwhile. Raises StudioError: forbidden, busy or bad_spec.
        """
        message = await self._ask(lambda request: protocol.pack_text("spec", spec=changes, request=request), 600.0)
        return dict(message["spec"])

    async def mask(self, mask: Mask | Pixels | None) -> None:
        """The painted strength map of mode "mask", uint8 [H, W] or [H, W, 3], white for full strength; None removes it.

        It holds for the frames sent after this call. Raises StudioError bad_mask.
        """
        png = b"" if mask is None else await asyncio.to_thread(codec.encode_mask, mask)
        self._painted["mask"] = protocol.pack_mask(0, png)
        await self._ask(lambda request: protocol.pack_mask(request, png))

    async def picture(self, picture: Pixels | bytes | None, second: bool = False) -> None:
        """The picture prompt, uint8 [H, W, 3], or the file of a style (bytes): what the result should be like; None removes it.
        second: the one that the setting `picture.blend` mixes in.

        It holds for the frames sent after this call, where the model takes pictures. Raises StudioError bad_picture.
        """
        png, form = b"", "none"
        if isinstance(picture, bytes):
            png, form = picture, codec.prompt_format(picture)
        elif picture is not None:
            png, form = await asyncio.to_thread(codec.encode, picture, protocol.PictureEncoding("png")), "png"
        self._painted["picture_b" if second else "picture"] = protocol.pack_picture(0, form, png, second)
        await self._ask(lambda request: protocol.pack_picture(request, form, png, second))

    async def keep(self, name: str) -> bytes:
        """The file of the present picture's style, or of the mixture of both, under this name, for `picture` to take. Raises
        StudioError bad_picture."""
        message = await self._ask(lambda request: protocol.pack_text("keep", name=name, request=request))
        return base64.b64decode(message["file"])

    async def fitting(self, wanted: bool) -> None:
        """Have the style of the picture prompt fitted in the background, or not. `fit` has the server's last word on it."""
        self._check()
        with contextlib.suppress(ConnectionClosed):
            await self._live().send(protocol.pack_text("fit", wanted=wanted))

    async def pause(self, paused: bool) -> None:
        """Have the server drop frames, or take them again."""
        self._check()
        with contextlib.suppress(ConnectionClosed):
            await self._live().send(protocol.pack_text("pause", paused=paused))

    async def _ask(self, question: Callable[[int], str | bytes], timeout: float = 10.0) -> dict[str, Any]:
        """Send what `question` makes of a request number; returns the reply with that number. Raises StudioError."""
        self._check()
        request = max(self._requests, default=0) + 1
        reply = self._requests[request] = asyncio.get_running_loop().create_future()
        try:
            await self._live().send(question(request))
            async with asyncio.timeout(timeout):
                message = await reply
        except (ConnectionClosed, TimeoutError) as error:
            raise StudioError("the server did not answer this request") from error
        finally:
            del self._requests[request]
        if message["type"] == "error":
            raise StudioError(message["message"], message["code"])
        return message

    # Connecting.

    async def _connect(self, resume: str | None) -> None:
        """A new connection, in use once the server has sent its welcome. Raises StudioError."""
        # Errors of an earlier connection do not explain how this one ends.
        self.errors = [error for error in self.errors if not error.get("fatal")]
        try:
            self._socket = await self._welcomed(resume)
        except ConnectionClosed as error:
            raise StudioError(*self._reason(error)) from error
        except (OSError, InvalidHandshake, InvalidURI, TimeoutError) as error:
            raise StudioError(f"{self.url}: {error}", "unreachable") from error
        self._settled = self._next_id - 1
        self._pace = Pace()
        self._room.set()

    async def _welcomed(self, resume: str | None) -> ClientConnection:
        """A connection after its welcome. Nothing else gets it before."""
        at = self.welcome.get("at")
        socket, self.welcome = await self._handshake.connect(at, resume, self._settings, self.errors.append)
        try:
            self._next_id = max(self._next_id, self.welcome["last_frame_id"] + 1)
            for message in self._painted.values() if resume is None else ():
                await socket.send(message)
        except BaseException:
            socket.transport.abort()
            raise
        return socket

    async def _read(self) -> None:
        try:
            while True:
                try:
                    async for message in self._live():
                        await self._take(message)
                    raise StudioError("the server ended the session")
                except ConnectionClosed as error:
                    await self._reconnect(error)
        except (StudioError, ProtocolError) as error:
            self._failure = error if isinstance(error, StudioError) else StudioError(f"the server breaks the protocol: {error}")
            self._room.set()
            await self._answers.put(None)

    async def _take(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            answer = protocol.parse_answer(message)
            self._settled = max(self._settled, answer.settled)
            self._pace.answered(answer, self._captured.get(answer.settled, answer.captured_at), time.monotonic())
            self._room.set()
            await self._answers.put(answer)
            return
        text = protocol.parse_server_text(message)
        kind = text["type"]
        if kind == "settings":
            self.welcome["settings"] = {name: value for name, value in text.items() if name not in ("type", "request")}
        elif kind == "spec":
            self.welcome |= {name: text[name] for name in ("spec", "model", "settings", "fields")}
        elif kind == "error":
            self.errors = [*self.errors[-31:], text]
        elif kind == "telemetry":
            self.telemetry = text
        elif kind == "fit":
            self.fit = text
        waiting = self._requests.get(text.get("request", -1))
        if waiting is not None and not waiting.done() and kind != "building":
            waiting.set_result(text)

    async def _reconnect(self, cause: ConnectionClosed) -> None:
        message, code = self._reason(cause)
        if cause.rcvd is not None and cause.rcvd.code not in RETRY_CODES:
            raise StudioError(message, code)
        for attempt in range(self._reconnects):
            await asyncio.sleep(PAUSES_S[min(attempt, len(PAUSES_S) - 1)] * random.uniform(0.5, 1.0))
            try:
                await self._take_up()
            except StudioError as error:
                if error.code not in ("unreachable", "full"):
                    raise
            else:
                for waiting in self._requests.values():
                    if not waiting.done():
                        waiting.set_exception(StudioError("the connection broke before this request was answered"))
                lost = self._next_id - 1
                return await self._answers.put(Answer(lost, self._captured.get(lost, 0.0), lost, 0, "dropped", "unsent"))
        raise StudioError(message, code)

    async def _take_up(self) -> None:
        """The session, or another one like it. Raises StudioError."""
        try:
            await self._connect(self.welcome["resume"])
        except StudioError as error:
            if error.code != "resume_expired":
                raise
            self._settings = self.values
            await self._connect(None)

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(self.welcome["limits"]["ping_s"])
            with contextlib.suppress(ConnectionClosed):
                await self._live().send(protocol.pack_text("ping", t=time.monotonic()))

    def _reason(self, error: ConnectionClosed) -> tuple[str, str]:
        fatal = next((text for text in reversed(self.errors) if text.get("fatal")), None)
        if fatal is not None:
            return str(fatal["message"]), str(fatal["code"])
        return f"{self.url}: {error}", error.rcvd.reason if error.rcvd is not None else ""

    def _live(self) -> ClientConnection:
        assert self._socket is not None, "use `async with`"
        return self._socket

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
