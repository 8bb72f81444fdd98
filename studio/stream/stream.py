"""One session's live way: inbox → codec pool → model thread → codec pool → outbox.

    receive ─▶ _unpack (pool) ─skip─▶ _skipped ──────────────▶ outbox
                     └run─▶ owner ─▶ _turned ─▶ _pack (pool) ─▶ outbox

Methods without a remark run on the event loop, which alone touches the session's bookkeeping. A frame goes from the pool to the
model and back to the pool without a detour over the loop: fewer hops, fewer waits for a busy core.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pipelines import Frame, Output, Pixels
from studio.model.owner import Job, Turned
from studio.pictures import codec
from studio.pictures.comparison import Comparison
from studio.pictures.in_turn import InTurn
from studio.stream.services import GateLike, Works
from studio.stream.session import Session, Waiting
from studio.stream.telemetry import Window
from studio.wire.limits import Limits
from studio.wire.protocol import (
    Answer,
    MaskMessage,
    ProtocolError,
    error_text,
    pack_reference,
    pack_text,
    parse_frame,
    parse_mask,
    parse_picture,
)

log = logging.getLogger("rill")


IDENTICAL_DB = 100.0
"""The PSNR that is told of identical pictures; the true one is infinite, which JSON cannot say."""


@dataclass(slots=True)
class Passage:
    """What is known of one frame under way. Times in seconds of the works' clock, or in ms where the name says so."""

    frame_id: int
    captured_at: float
    received_at: float
    receive_ms: float = 0.0
    unpack_ms: float = 0.0
    gate_ms: float = 0.0
    has_frame: bool = True


class Stream:
    """Moves the frames of one session; outlives its connections."""

    def __init__(self, session: Session, works: Works, gate: GateLike) -> None:
        self.session = session
        self.wake = asyncio.Event()
        self.attached = False
        self.texts: asyncio.Queue[str | bytes | Answer] = asyncio.Queue(works.limits.texts_waiting)
        self.window = Window(works.clock(), session.totals)
        self.send_ms = 0.0
        self.packed_at = 0.0
        self.shown: tuple[str, bytes] | None = None  # the last picture as it was sent, with its format
        self._watchers: list[asyncio.Event] = []
        self._counted: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self.complain: Callable[[str], None] = lambda code: None
        self._works = works
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._comparison = Comparison()
        self._unpacking = False
        self._gate_stale = False
        self._in_model = 0
        self._packing = InTurn(self._submit)

    def receive(self, message: bytes, now: float) -> None:
        """A binary message has come in. Raises ProtocolError."""
        self.session.receive(parse_frame(message), now)
        self._unpack_next()
        self._news()

    async def paint(self, message: bytes) -> str:
        """A mask has come in; what to answer. Read nothing else meanwhile: it holds for just those frames that come after it.

        Raises ProtocolError.
        """
        given = parse_mask(message)
        self.session.mask = await self._unpacked_beside(given, lambda given, limits: codec.decode_mask(given.picture, limits))
        return self._taken("mask", self.session.mask, given.request)

    async def show(self, message: bytes) -> str:
        """A picture prompt has come in; what to answer. As with a mask, nothing else is read meanwhile. Raises ProtocolError."""
        given = parse_picture(message)
        self.session.picture = await self._unpacked_beside(
            given, lambda given, limits: codec.decode_prompt(given.picture, given.format, limits)
        )
        return self._taken("picture", self.session.picture, given.request)

    async def _unpacked_beside(self, given: MaskMessage, decode: Callable[[MaskMessage, Limits], Any]) -> Any:
        """What came with a message, decoded in the pool; None if it removes what was there. Raises ProtocolError."""
        if not given.picture:
            return None
        try:
            return await self._loop.run_in_executor(self._works.pool, decode, given, self._works.limits)
        except ProtocolError as error:
            error.request = given.request
            raise

    def _taken(self, kind: str, given: Any, request: int) -> str:
        self._gate_stale = True  # a still picture shall show it too
        size = None if given is None else [given.shape[1], given.shape[0]]
        return pack_text(kind, present=given is not None, size=size, request=request)

    def say(self, text: str | bytes) -> None:
        """Queue a message beside the answers; a reader so slow that the queue is full does without it."""
        if not self.texts.full():
            self.texts.put_nowait(text)
            self.wake.set()

    def attach(self) -> None:
        """A connection begins: nothing of an earlier one is left over."""
        self.attached = True
        self.texts = asyncio.Queue(self._works.limits.texts_waiting)
        self.session.references = False
        self.window = Window(self._works.clock(), self.session.totals)
        self.wake.clear()

    def detach(self) -> None:
        """The connection has ended."""
        self.attached = False
        self.complain = lambda code: None

    def watch(self) -> asyncio.Event:
        """An event that is set whenever there is another picture in `shown`, or something to be looked at."""
        news = asyncio.Event()
        self._watchers.append(news)
        return news

    def unwatch(self, news: asyncio.Event) -> None:
        self._watchers.remove(news)

    def look(self) -> None:
        """Wakes everybody who watches."""
        for news in self._watchers:
            news.set()

    def count(self) -> None:
        """Add what has happened since the last call to the server's metrics."""
        metrics, (totals, drops) = self._works.metrics, self._counted
        metrics.count(totals, self.session.totals, metrics.frames)
        metrics.count(drops, self.session.drops, metrics.drops)
        self._counted = (self.session.totals.copy(), self.session.drops.copy())

    def _unpack_next(self) -> None:
        if self._unpacking:
            return
        waiting = self.session.take(self._works.clock())
        if waiting is not None:
            self._unpacking = True
            self._submit(self._unpack, waiting)

    def _submit(self, work: Callable[..., None], *arguments: object) -> None:
        """Any thread. Give the pool something to do; what goes wrong unforeseen is logged and told, so that no credit leaks."""

        def finished(future: Future[None]) -> None:
            if not future.cancelled() and (error := future.exception()) is not None:
                log.error("session %s: %s failed", self.session.name, work.__name__, exc_info=error)
                self._call(self._broken, work == self._unpack)

        try:
            self._works.pool.submit(work, *arguments).add_done_callback(finished)
        except RuntimeError:  # the pool has been shut down: so is the server
            log.debug("session %s: a frame came after the end", self.session.name)

    def _call(self, work: Callable[..., None], *arguments: object) -> None:
        """Any thread. Have the event loop do it, unless that has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(partial(work, *arguments))

    # Codec pool.

    def _unpack(self, waiting: Waiting) -> None:
        works, frame, session = self._works, waiting.frame, self.session
        started = works.clock()
        passage = Passage(frame.id, frame.captured_at, waiting.received_at, (started - waiting.received_at) * 1000)
        spec = works.spec()
        try:
            pixels = None
            if frame.format != "none":
                pixels = codec.decode(frame.picture, frame.format, spec.width, spec.height, works.limits)
        except ProtocolError as error:
            return self._call(self._unpacked, partial(self._failed, passage, error.code, error.message, error.field))
        unpacked = works.clock()
        skip, thumb, notes = self._ask_gate(pixels)
        ready = works.clock()
        passage.unpack_ms, passage.gate_ms = (unpacked - started) * 1000, (ready - unpacked) * 1000
        if skip and not self._in_model:
            return self._call(self._unpacked, partial(self._skipped, passage, notes))
        # A skipped frame still lets those in the stream batch move on: else a still scene would never be finished.
        passage.has_frame = not skip
        given = Frame(frame.id, frame.captured_at, pixels, thumb) if passage.has_frame else None
        if passage.has_frame:
            self._comparison.source(frame.id, pixels, session.settings.probe.enabled)
        unused = partial(self._superseded, frame.id) if passage.has_frame else partial(self._skipped, passage, {})
        job = Job(session.name, session, given, ready, partial(self._turned, passage), partial(self._call, self._nearly), unused)
        self._call(self._unpacked, partial(self._offered, works.fleet.offer(job), notes))

    def _ask_gate(self, pixels: Pixels | None) -> tuple[bool, Any, dict[str, float]]:
        """Whether to skip, the thumbnail if there is one, and what telemetry shows."""
        if self._gate_stale:
            self._gate_stale = False
            self._gate.forget()
        settings = self.session.settings
        answer = self._gate.ask(pixels, settings.gate, settings.version)
        scores, thumb = getattr(answer, "scores", None), getattr(answer, "thumb", None)
        if not settings.gate.enabled or scores is None:
            return answer.skip, thumb, {}
        return answer.skip, thumb, {"gate.cosine": scores.cosine, "gate.tile": scores.tile}

    def _pack(self, passage: Passage, turned: Turned) -> None:
        output, clock = turned.output, self._works.clock
        if output is None:
            return self._call(self._failed, passage, "model_error", turned.error or "the model failed", None)
        started = clock()
        wish, picture, form = self.session.wish, b"", "none"
        if output.pixels is not None:
            pixels = output.pixels.numpy()
            picture, form = codec.encode(pixels, wish), wish.format
            reference = None if output.reference is None else output.reference.numpy()
            if reference is not None and self.session.references:
                captured_at = self.session.captured(output.frame_id)
                self._call(self.say, pack_reference(output.frame_id, captured_at, form, codec.encode(reference, wish)))
            output = replace(output, quality=self._comparison.shown(output.frame_id, pixels, reference))
        now = clock()
        engine = output.timings
        timings = (
            *(passage.receive_ms, passage.unpack_ms, passage.gate_ms),
            *(engine.encode, engine.denoise, engine.decode),
            *((now - started) * 1000, self.send_ms, turned.wait_ms, (now - passage.received_at) * 1000),
        )
        self._call(self._answered, passage, turned, output, timings, form, picture, now)

    # Model thread.

    def _turned(self, passage: Passage, turned: Turned) -> None:
        self._in_model = turned.in_flight
        self._packing.add(partial(self._pack, passage, turned))

    def swapped(self, lost: tuple[int, ...], describe: Callable[[], str]) -> None:
        """Another pipeline runs, and this session's frames `lost` went with the old one. Whatever the old one made is told first,
        then what `describe` says, then anything of the new one.
        """
        self._in_model = 0
        self._gate_stale = True
        self._packing.add(partial(self._call, self._begin_anew, lost, describe))

    # Event loop again.

    def _unpacked(self, then: Callable[[], None]) -> None:
        self._unpacking = False
        then()
        self._unpack_next()
        self._news()

    def _offered(self, unused: Job | None, notes: Mapping[str, float]) -> None:
        self.window.remark(notes)
        if unused is not None:
            unused.unused()

    def _superseded(self, frame_id: int) -> None:
        self._gate_stale = True  # the gate took that frame for processed
        self.session.supersede(frame_id)

    def _nearly(self) -> None:
        self.session.refresh()
        self._news()

    def _begin_anew(self, lost: tuple[int, ...], describe: Callable[[], str]) -> None:
        if not self.attached:
            return  # the next welcome says it
        self.session.forgo(lost)
        while (answer := self.session.post()) is not None:
            self._tell(answer)
        self._tell(describe())

    def _tell(self, message: str | Answer) -> None:
        """Queue what a client must not miss; the oldest message gives way if it must."""
        if self.texts.full():
            self.texts.get_nowait()
        self.texts.put_nowait(message)
        self.wake.set()

    def _skipped(self, passage: Passage, notes: Mapping[str, float]) -> None:
        self.window.remark(notes)
        total = (self._works.clock() - passage.received_at) * 1000
        timings = (passage.receive_ms, passage.unpack_ms, passage.gate_ms, 0.0, 0.0, 0.0, 0.0, self.send_ms, 0.0, total)
        version = self.session.settings.version
        answer = Answer(passage.frame_id, passage.captured_at, 0, version, "skipped", timings=timings)
        self.packed_at = self._works.clock()
        self.session.answer(passage.frame_id, answer)

    def _answered(
        self, passage: Passage, turned: Turned, output: Output, timings: tuple[float, ...], form: str, picture: bytes, now: float
    ) -> None:
        consumed, shown = passage.frame_id, output.frame_id
        verdict: str = output.verdict
        if verdict == "warming" and not passage.has_frame:
            verdict = "skipped"
        if verdict in ("warming", "skipped"):
            shown = consumed
        quality = output.quality
        numbers = (math.nan,) * 3
        if quality is not None:
            psnr = min(quality.psnr, IDENTICAL_DB)
            numbers = (quality.ssim, psnr, math.nan if quality.flicker is None else quality.flicker)
            self.window.quality = {"ssim": quality.ssim, "psnr": psnr, "flicker": quality.flicker}
        answer = Answer(
            shown,
            self.session.captured(shown),
            0,
            output.settings_version,
            verdict,
            "none",
            timings,
            *numbers,
            form,
            picture,
        )
        self.window.queued((turned.taken_at - passage.received_at) * 1000)
        self.packed_at = now
        if picture:
            self.shown = form, picture
            self.look()
        self.session.answer(consumed, answer)
        self._news()

    def _failed(self, passage: Passage, code: str, message: str, field: str | None) -> None:
        self._gate_stale = True
        if not self.session.awaits(passage.frame_id):
            return
        answer = Answer(passage.frame_id, passage.captured_at, 0, self.session.settings.version, "failed")
        self.session.answer(passage.frame_id, answer)
        self._works.metrics.errors.labels(code).inc()
        self.say(error_text(code, message, field=field, frame=passage.frame_id))
        self.complain(code)
        self._news()

    def _broken(self, unpacking: bool) -> None:
        """Something of ours failed; every frame under way is given up, and the stream goes on."""
        self._unpacking = self._unpacking and not unpacking
        self.session.inbox = None
        for frame_id in self.session.in_flight:
            self._failed(Passage(frame_id, self.session.captured(frame_id), 0.0), "model_error", "an internal error", None)
        self._news()

    def _news(self) -> None:
        if self.session.outbox:
            self.wake.set()
