"""The way in of one session: from a client's binary message to a job for the model.

    socket ─▶ Inbound (event loop) ─▶ session's inbox ─▶ FrameReader (codec pool) ─┬▶ model thread
                                                                                   └▶ Outbound.skipped or failed (event loop)

A frame goes from the codec pool to the model directly: a detour over the event loop would be one more wait for a busy core.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from pipelines import Frame, ModelError, PictureStyle, Pixels
from studio.model.jobs import Job
from studio.pictures import codec
from studio.pictures.comparison import Comparison
from studio.pictures.style_file import file_of, mixture
from studio.stream.dispatcher import Dispatcher
from studio.stream.model_callbacks import ModelCallbacks
from studio.stream.outbound import FrameProgress, Outbound
from studio.stream.services import StreamServices
from studio.stream.session import ReceivedFrame, Session
from studio.stream.session_gate import SessionGate
from studio.stream.telemetry import Window
from studio.wire.limits import Limits
from studio.wire.protocol import (
    MaskMessage,
    ProtocolError,
    pack_text,
    parse_frame,
    parse_mask,
    parse_name,
    parse_picture,
)


class Inbound:
    """Takes frames, masks, picture prompts and styles with names; one frame at a time is read. Event loop only."""

    def __init__(
        self,
        session: Session,
        services: StreamServices,
        dispatcher: Dispatcher,
        reader: FrameReader,
        outbound: Outbound,
        gate: SessionGate,
    ) -> None:
        self.reading = False  # a frame is in the codec pool
        self._session, self._services, self._dispatcher = session, services, dispatcher
        self._reader, self._outbound, self._gate = reader, outbound, gate

    def receive_frame(self, message: bytes, now: float) -> None:
        """Raises ProtocolError for a wrong header. What is wrong with the picture is found later, in the codec pool."""
        self._session.receive(parse_frame(message), now)
        self._read_next()
        self._outbound.mailbox.wake()

    async def receive_mask(self, message: bytes) -> str:
        """Returns the reply. Read nothing else from the client meanwhile: the mask holds for exactly the frames after it.

        Raises ProtocolError.
        """
        given = parse_mask(message)
        self._session.mask = await self._decoded(given, lambda given, limits: codec.decode_mask(given.picture, limits))
        return self._reply("mask", self._session.mask, given.request)

    async def receive_picture_prompt(self, message: bytes) -> str:
        """Returns the reply. As with a mask, read nothing else from the client meanwhile. Raises ProtocolError."""
        given = parse_picture(message)
        name = "picture_b" if given.second else "picture"
        picture = await self._decoded(given, self._read_picture)
        setattr(self._session, name, picture)
        if given.format == "style":
            self._name(picture)
        return self._reply(name, picture, given.request)

    async def receive_name(self, message: bytes) -> str:
        """A style that prompts may name from now on, of whichever painter, and that is not used as a picture. Returns the reply.
        Raises ProtocolError."""
        given = parse_name(message)
        style = await self._decoded(given, lambda given, limits: codec.decode_prompt(given.picture, given.format, limits))
        self._name(style)
        return pack_text("name", name=style.name, request=given.request)

    def _name(self, style: PictureStyle) -> None:
        """From now on the session's prompts may name this style."""
        if style.name:
            self._session.names = self._session.names.with_style(replace(style, source=None, tile=b""))
            self._gate.reset()

    def _read_picture(self, given: MaskMessage, limits: Limits) -> Pixels | PictureStyle:
        """In the codec pool, so that no step waits: a picture becomes a style where the model's painter takes it as one."""
        pictures = self._services.fleet.pipeline(self._session.name).pictures
        picture = codec.decode_prompt(given.picture, given.format, limits)
        if not isinstance(picture, PictureStyle):
            style = pictures.style(picture)
            return picture if style is None else style
        try:
            pictures.check(picture)
        except ModelError as error:
            raise ProtocolError(str(error), code="bad_picture", field="picture") from error
        return picture

    async def keep_style(self, name: str, request: int | None) -> str:
        """The message with the file of the present picture's style, called `name`; of two pictures it is their mixture at the
        present `picture.blend`. Raises ProtocolError bad_picture."""
        try:
            data, style = await asyncio.get_running_loop().run_in_executor(self._services.pool, self._kept, name)
        except ModelError as error:
            raise ProtocolError(str(error), code="bad_picture", request=request) from error
        self._name(style)
        file = base64.b64encode(data).decode()
        return pack_text("style", name=name, file=file, fitted=style.fitted, request=request)

    def _kept(self, name: str) -> tuple[bytes, PictureStyle]:
        """(file, style), in the codec pool. Raises ModelError where there is no style."""
        session = self._session
        styles = [each for each in (session.picture, session.picture_b) if isinstance(each, PictureStyle)]
        if not styles:
            raise ModelError("there is no style to keep: no picture became one")
        made = styles[0] if len(styles) == 1 else mixture(styles[0], styles[1], session.settings.picture.blend)
        style = replace(made, name=name)
        return file_of(style), style

    async def _decoded(self, given: MaskMessage, decode: Callable[[MaskMessage, Limits], Any]) -> Any:
        """The message's picture, decoded in the codec pool; None where the message removes it. Raises ProtocolError."""
        if not given.picture:
            return None
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._services.pool, decode, given, self._services.limits)
        except ProtocolError as error:
            error.request = given.request
            raise

    def _reply(self, kind: str, given: Any, request: int) -> str:
        self._gate.reset()  # a still picture must be drawn again with it
        style = given if isinstance(given, PictureStyle) else None
        pixels = given if style is None else style.source
        size = None if pixels is None else [pixels.shape[1], pixels.shape[0]]
        facts = None if style is None else {"name": style.name, "fitted": style.fitted}
        return pack_text(kind, present=given is not None, size=size, style=facts, request=request)

    def _read_next(self) -> None:
        if self.reading:
            return
        received = self._session.take(self._services.clock())
        if received is not None:
            self.reading = True
            self._dispatcher.to_pool(self._reader.read, received, self._frame_read, on_error=self._read_failed)

    def _frame_read(self, *continuations: Callable[[], None]) -> None:
        self.reading = False
        for continuation in continuations:
            continuation()
        self._read_next()
        self._outbound.mailbox.wake()

    def _read_failed(self) -> None:
        self.reading = False
        self._outbound.fail_all()


class FrameReader:
    """Decodes a frame, lets the gate decide, and offers a job to the model. Codec pool only, one call at a time."""

    def __init__(
        self,
        session: Session,
        services: StreamServices,
        dispatcher: Dispatcher,
        callbacks: ModelCallbacks,
        outbound: Outbound,
        gate: SessionGate,
        window: Window,
        comparison: Comparison,
    ) -> None:
        self._session, self._services, self._dispatcher = session, services, dispatcher
        self._callbacks, self._outbound, self._gate = callbacks, outbound, gate
        self._window, self._comparison = window, comparison
        self._passed = 0  # id of the last frame that the gate let through

    def read(self, received: ReceivedFrame, done: Callable[..., None]) -> None:
        """Calls `done` on the event loop, with the functions that are to be called there next."""
        services, frame = self._services, received.frame
        started = services.clock()
        progress = FrameProgress(
            frame.id, frame.captured_at, received.received_at, receive_ms=(started - received.received_at) * 1000
        )
        try:
            pixels, spec = None, services.spec()
            if frame.format != "none":
                pixels = codec.decode(frame.picture, frame.format, spec.width, spec.height, services.limits)
        except ProtocolError as error:
            failed = partial(self._outbound.failed, progress, error.code, error.message, error.field)
            return self._dispatcher.to_loop(done, failed)
        unpacked = services.clock()
        settings = self._session.settings
        decision = self._gate.decide(pixels, settings, self._callbacks.changing or self._session.every)
        ready_at = services.clock()
        progress.unpack_ms, progress.gate_ms = (unpacked - started) * 1000, (ready_at - unpacked) * 1000
        self._passed = self._passed if decision.skip else frame.id
        progress.repeats = self._passed
        scores = decision.scores
        notes = {"gate.cosine": scores.cosine, "gate.tile": scores.tile} if settings.gate.enabled else {}
        if decision.skip and not self._callbacks.frames_inside:
            return self._dispatcher.to_loop(done, partial(self._outbound.skipped, progress, notes))
        # A skipped frame still lets the stream batch move on, or a still scene would never be finished.
        progress.has_frame = not decision.skip
        if progress.has_frame:
            self._comparison.remember_source(frame.id, pixels, settings.probe.enabled)
        model_frame = Frame(frame.id, frame.captured_at, pixels, decision.thumb) if progress.has_frame else None
        unused = services.fleet.offer(self._job(progress, model_frame, ready_at))
        self._dispatcher.to_loop(done, partial(self._window.remark, notes), *([] if unused is None else [unused.on_unused]))

    def _job(self, progress: FrameProgress, frame: Frame | None, ready_at: float) -> Job:
        if frame is None:
            on_unused: Callable[[], None] = partial(self._outbound.skipped, progress, {})
        else:
            on_unused = partial(self._outbound.superseded, progress.frame_id)
        on_done = partial(self._callbacks.job_done, progress)
        queued = self._session.every and frame is not None
        refines = self._session.settings.refine.enabled and not self._session.every
        on_refined = self._callbacks.refined if refines else None
        name, near = self._session.name, self._callbacks.turn_near
        return Job(name, self._session, frame, ready_at, on_done, near, on_unused, queued, on_refined)
