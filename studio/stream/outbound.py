"""The way out of one session: from the model's result to a message for the client.

model thread ─▶ PicturePacker (codec pool) ─▶ Outbound (event loop) ─▶ session's outbox ─▶ Mailbox ─▶ socket
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from pipelines import Output, Quality, StageTimings
from studio.model.jobs import JobResult
from studio.pictures import codec
from studio.pictures.comparison import Comparison
from studio.pictures.serial_executor import SerialExecutor
from studio.stream.dispatcher import Dispatcher
from studio.stream.latest_picture import LatestPicture
from studio.stream.mailbox import Mailbox
from studio.stream.services import StreamServices
from studio.stream.session import Session
from studio.stream.session_gate import SessionGate
from studio.stream.telemetry import Window
from studio.wire.protocol import Answer, AnswerTimings, error_text, pack_answer, pack_reference
from studio.wire.sockets import Socket

MAX_PSNR_DB = 100.0
"""Sent for identical pictures, whose PSNR is infinite: JSON has no number for that."""


@dataclass(slots=True)
class FrameProgress:
    """What is known of one frame in progress. Times in seconds of the services' clock, or in ms where the name ends in _ms."""

    frame_id: int
    captured_at: float
    received_at: float
    receive_ms: float = 0.0
    unpack_ms: float = 0.0
    gate_ms: float = 0.0
    repeats: int = 0  # id of the last frame that the gate let through, this one or the one that it repeats
    has_frame: bool = True  # False: the gate skipped it, and its job only lets the stream batch move on


@dataclass(frozen=True, slots=True)
class PackedResult:
    """A result of the model, ready to be sent; picture is empty with format "none". packed_at in seconds."""

    progress: FrameProgress
    output: Output
    taken_at: float
    timings: AnswerTimings
    format: str
    picture: bytes
    packed_at: float


@dataclass(frozen=True, slots=True)
class RefinedPicture:
    """A better picture of the frame `frame_id`, for the next answer that would repeat that frame's."""

    frame_id: int
    timings: StageTimings
    pack_ms: float
    format: str
    picture: bytes


class Outbound:
    """Answers, errors and what else goes to the client; one mailbox per connection. Event loop only."""

    def __init__(
        self, session: Session, services: StreamServices, gate: SessionGate, window: Window, latest: LatestPicture
    ) -> None:
        self.mailbox = self._new_mailbox(session, services)
        self.mailbox.close()
        self.send_ms = 0.0  # of the last answer, from packed to handed to the socket
        self._session, self._services, self._gate = session, services, gate
        self._window, self._latest = window, latest
        self._packed_at = 0.0
        self._refined: RefinedPicture | None = None
        self._on_error: Callable[[str], None] = lambda code: None

    @staticmethod
    def _new_mailbox(session: Session, services: StreamServices) -> Mailbox:
        return Mailbox(session, services.limits.texts_waiting)

    # One connection.

    def attach(self, on_error: Callable[[str], None]) -> Mailbox:
        """A connection begins with an empty mailbox. on_error: called with the code of each frame's error."""
        self.mailbox.close()
        self.mailbox = self._new_mailbox(self._session, self._services)
        self._refined = None
        self._on_error = on_error
        return self.mailbox

    def detach(self) -> None:
        """The connection has ended."""
        self.mailbox.close()
        self._on_error = lambda code: None

    async def deliver(self, mailbox: Mailbox, socket: Socket) -> None:
        """Send what comes into the mailbox until this is cancelled. Raises Disconnected."""
        while True:
            message = await mailbox.get()
            if isinstance(message, Answer):
                await self._send_answer(message, socket)
            else:
                await self._send(message, socket)

    async def _send(self, message: str | bytes, socket: Socket) -> None:
        """Returns when the peer has taken most of it. Meanwhile the session keeps only its newest picture."""
        self._session.send_blocked = True
        await socket.send(message)
        self._session.send_blocked = False
        self._window.sent(len(message))
        self._services.metrics.bytes.labels("out").inc(len(message))

    async def _send_answer(self, answer: Answer, socket: Socket) -> None:
        packed_at = self._packed_at
        await self._send(pack_answer(answer), socket)
        self.send_ms = max(0.0, self._services.clock() - packed_at) * 1000
        if answer.verdict in ("generated", "cached"):
            self._window.answered(answer.timings)
            self._services.metrics.timings(answer.timings)

    # What becomes of a frame.

    def skipped(self, progress: FrameProgress, notes: dict[str, float]) -> None:
        """The gate found the frame unchanged."""
        self._window.remark(notes)
        self._packed_at = now = self._services.clock()
        timings = AnswerTimings(
            receive=progress.receive_ms,
            unpack=progress.unpack_ms,
            gate=progress.gate_ms,
            send=self.send_ms,
            total=(now - progress.received_at) * 1000,
        )
        version = self._session.settings.version
        answer = Answer(progress.frame_id, progress.captured_at, 0, version, "skipped", timings=timings)
        self._session.answer(progress.frame_id, self._with_refined(answer, progress))

    def _with_refined(self, answer: Answer, progress: FrameProgress) -> Answer:
        """The answer of a skipped frame; with the refined picture of the frame that it repeats, if there is one, as of a full
        pass. An earlier frame that is still in progress would be settled by it, so then there is none."""
        better = self._refined
        if better is None or better.frame_id != progress.repeats or self._session.in_flight[:1] != (progress.frame_id,):
            return answer
        self._refined = None
        self._latest.publish(better.format, better.picture)
        made = better.timings
        timings = replace(answer.timings, encode=made.encode, denoise=made.denoise, decode=made.decode, pack=better.pack_ms)
        return replace(answer, verdict="generated", timings=timings, format=better.format, picture=better.picture)

    def refined(self, better: RefinedPicture) -> None:
        """A better picture of the frame that was drawn last; it goes out with the next frame that the gate skips."""
        self._refined = better

    def packed(self, result: PackedResult) -> None:
        """The model has processed the frame."""
        progress, output = result.progress, result.output
        verdict: str = output.verdict
        if verdict == "warming" and not progress.has_frame:
            verdict = "skipped"
        shown = progress.frame_id if verdict in ("warming", "skipped") else output.frame_id
        answer = Answer(
            shown,
            self._session.captured(shown),
            0,
            output.settings_version,
            verdict,
            timings=result.timings,
            format=result.format,
            picture=result.picture,
        )
        if output.quality is not None:
            answer = self._with_quality(answer, output.quality)
        self._window.queued((result.taken_at - progress.received_at) * 1000)
        self._packed_at = result.packed_at
        self._refined = None
        if result.picture:
            self._latest.publish(result.format, result.picture)
        self._session.answer(progress.frame_id, answer)
        self.mailbox.wake()

    def _with_quality(self, answer: Answer, quality: Quality) -> Answer:
        psnr = min(quality.psnr, MAX_PSNR_DB)
        self._window.quality = {"ssim": quality.ssim, "psnr": psnr, "flicker": quality.flicker}
        return replace(answer, ssim=quality.ssim, psnr=psnr, flicker=math.nan if quality.flicker is None else quality.flicker)

    def reference(self, frame_id: int, form: str, picture: bytes) -> None:
        """The probe's picture of a frame; the answer of that frame follows."""
        self.mailbox.post_or_drop(pack_reference(frame_id, self._session.captured(frame_id), form, picture))

    def failed(self, progress: FrameProgress, code: str, message: str, field: str | None = None) -> None:
        """The frame is broken, or the model failed on it: send an error and an answer. code: as in docs/protocol-messages.md."""
        self._gate.reset()
        if not self._session.awaits(progress.frame_id):
            return
        answer = Answer(progress.frame_id, progress.captured_at, 0, self._session.settings.version, "failed")
        self._session.answer(progress.frame_id, answer)
        self._services.metrics.errors.labels(code).inc()
        self.mailbox.post_or_drop(error_text(code, message, field=field, frame=progress.frame_id))
        self._on_error(code)
        self.mailbox.wake()

    def fail_all(self) -> None:
        """An error of our own: every frame in flight has failed, and the stream continues."""
        self._session.clear_inbox()
        for frame_id in self._session.in_flight:
            self.failed(FrameProgress(frame_id, self._session.captured(frame_id), 0.0), "model_error", "an internal error")
        self.mailbox.wake()

    def superseded(self, frame_id: int) -> None:
        """A newer frame has taken this one's place before the model took it."""
        self._gate.reset()
        self._session.supersede(frame_id)

    def turn_near(self) -> None:
        """The session's next step is about to begin: one superseded frame gives its credit back."""
        self._session.release_superseded()
        self.mailbox.wake()

    def pipeline_swapped(self, lost: tuple[int, ...], describe: Callable[[], str]) -> None:
        """Another pipeline runs. Post the answers of the old one, then the message that `describe` makes.

        lost: ids of frames that were inside the old one's stream batch.
        """
        if self.mailbox.closed:
            return  # the next welcome describes the pipeline
        self._session.report_lost(lost)
        while (answer := self._session.next_answer()) is not None:
            self.mailbox.post_evicting(answer)
        self.mailbox.post_evicting(describe())


class PicturePacker:
    """Compresses results, in the order in which the model made them. `add` from any thread; the rest in the codec pool."""

    def __init__(self, session: Session, services: StreamServices, dispatcher: Dispatcher, outbound: Outbound) -> None:
        self.comparison = Comparison()
        self._session, self._services, self._dispatcher, self._outbound = session, services, dispatcher, outbound
        self._queue = SerialExecutor(partial(dispatcher.to_pool, on_error=outbound.fail_all))

    def add(self, progress: FrameProgress, result: JobResult) -> None:
        """Compress one result and hand it to the event loop."""
        self._queue.submit(partial(self._pack, progress, result))

    def add_call(self, work: Callable[..., None], *arguments: object) -> None:
        """Call `work` on the event loop after the results that were added before."""
        self._queue.submit(partial(self._dispatcher.to_loop, work, *arguments))

    def add_refined(self, output: Output) -> None:
        """Compress a refined picture and hand it to the event loop."""
        self._queue.submit(partial(self._pack_refined, output))

    def _pack_refined(self, output: Output) -> None:
        if output.pixels is None:
            return
        started = self._services.clock()
        encoding = self._session.encoding
        picture = codec.encode(output.pixels.numpy(), encoding)
        pack_ms = (self._services.clock() - started) * 1000
        better = RefinedPicture(output.frame_id, output.timings, pack_ms, encoding.format, picture)
        self._dispatcher.to_loop(self._outbound.refined, better)

    def _pack(self, progress: FrameProgress, result: JobResult) -> None:
        output, clock = result.output, self._services.clock
        if output is None:
            message = result.error or "the model failed"
            return self._dispatcher.to_loop(self._outbound.failed, progress, "model_error", message)
        started = clock()
        encoding, picture, form = self._session.encoding, b"", "none"
        if output.pixels is not None:
            pixels = output.pixels.numpy()
            picture, form = codec.encode(pixels, encoding), encoding.format
            reference = None if output.reference is None else output.reference.numpy()
            if reference is not None and self._session.wants_references:
                compressed = codec.encode(reference, encoding)
                self._dispatcher.to_loop(self._outbound.reference, output.frame_id, form, compressed)
            output = replace(output, quality=self.comparison.compare(output.frame_id, pixels, reference))
        now = clock()
        timings = self._timings(progress, output, result.wait_ms, (now - started) * 1000, now)
        packed = PackedResult(progress, output, result.taken_at, timings, form, picture, now)
        self._dispatcher.to_loop(self._outbound.packed, packed)

    def _timings(self, progress: FrameProgress, output: Output, wait_ms: float, pack_ms: float, now: float) -> AnswerTimings:
        engine = output.timings
        return AnswerTimings(
            receive=progress.receive_ms,
            unpack=progress.unpack_ms,
            gate=progress.gate_ms,
            encode=engine.encode,
            denoise=engine.denoise,
            decode=engine.decode,
            pack=pack_ms,
            send=self._outbound.send_ms,
            wait=wait_ms,
            total=(now - progress.received_at) * 1000,
        )
