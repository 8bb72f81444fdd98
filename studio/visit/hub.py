"""What all connections of one server share: the model's owners, the codec pool, the sessions, the bounds."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING

from pipelines import FIELDS, REGISTRY, PictureStyle, RillError, Settings, StreamSpec
from studio.model.build_process import BuildProcess
from studio.model.change import build, choices, client_error, drop_tracebacks, facts, fitted_settings, merged_spec
from studio.model.fitter import Fitter
from studio.model.fleet import Fleet, OnSwapped
from studio.model.jobs import LostFrames
from studio.pictures import codec
from studio.stream.metrics import Metrics
from studio.stream.services import StreamServices
from studio.stream.session import Session
from studio.stream.stream import Stream
from studio.visit import lora_changes
from studio.visit.config import ServerConfig
from studio.visit.graph_needs import GraphNeeds
from studio.visit.line import Line
from studio.visit.seats import Seat, Seats
from studio.visit.style_fits import StyleFits
from studio.visit.views import Views
from studio.wire.protocol import ProtocolError, declare, pack_text
from studio.wire.refusal import Refusal

if TYPE_CHECKING:
    from pipelines import StreamPipeline

log = logging.getLogger("rill")

CLOSE_S = 2.0
"""`Hub.close` waits this long for a graph that is being built, and this long for a pipeline."""

STALLED_S = 60.0
"""A step that takes longer than this is reported as stalled."""

RETURN_AGAIN_S = 60.0
"""A failed return to the operator's spec is tried again after this time, if no session has begun meanwhile."""


PipelineFactory = Callable[[StreamSpec], "StreamPipeline"]


class Hub:
    """One per app. Everything but `fleet` and `pool` belongs to the event loop."""

    def __init__(self, config: ServerConfig, factory: PipelineFactory) -> None:
        self.config = config
        self.limits = config.limits
        self.clock = time.perf_counter
        self.started_at = self.clock()
        self.fleet = Fleet(factory, config.each(config.spec), self.clock)
        # Two are enough to hide the codec behind the model; more would take cores from it.
        workers = min(4, max(2, (os.cpu_count() or 2) // 2))
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="rill-codec", initializer=codec.use_one_thread)
        self.seats = Seats(self.limits)
        self.line = Line(self.limits.max_waiting, self.limits.turn_s, self.limits.warning_s)
        self.views = Views(self.limits.max_viewers)
        self.metrics = Metrics()
        self.connections = 0
        self._graphs = GraphNeeds(self.fleet, self.seats, BuildProcess() if config.ahead else None)
        self.fits = StyleFits(Fitter(config.fit_share), lambda: self.spec().model, self._of_its_painter, self.metrics)
        self._factory = factory
        self._changer = ThreadPoolExecutor(1, thread_name_prefix="rill-changer")
        self._changing: asyncio.Task[ProtocolError | None] | None = None
        self._building: Future[list[StreamPipeline]] | None = None
        self._operators: StreamSpec | None = None  # what ran before visitors changed it; None while that runs
        self._return_at = 0.0
        self._closed = False
        self._incoming: Sequence[StreamPipeline] = ()
        self._offered: dict[str, list[str]] = {}
        self._services = StreamServices(self.fleet, self.pool, self.limits, self.metrics, self.clock, self.spec)
        self._streams: dict[str, Stream] = {}
        self.metrics.watch("rill_sessions", "Connected sessions.", lambda: self.seats.connected)
        self.metrics.watch("rill_sessions_kept", "Sessions, those in their grace period included.", lambda: len(self.seats))
        self.metrics.watch("rill_waiting", "Clients that wait for a seat.", lambda: len(self.line))
        self.metrics.watch("rill_graph_bytes", "Memory of graphs beside the plain ones.", lambda: self._graphs.bytes)
        self.metrics.watch("rill_model_ready", "1 if the model is loaded.", lambda: float(self.pipeline is not None))

    def start(self) -> None:
        """Begin to load the model."""
        for owner in self.fleet.owners:
            owner.loaded.add_done_callback(lambda _: self._prepare_ahead())
        self.fleet.start(self.metrics.batch.observe)

    @property
    def pipeline(self) -> StreamPipeline | None:
        """The pipeline once it is loaded; where there are several, alike but for their device, the first once all are."""
        loaded = self.fleet.loaded
        return loaded.result() if loaded.done() and loaded.exception() is None else None

    def spec(self) -> StreamSpec:
        """The spec that runs; before the model is loaded, the one that was requested."""
        return self.config.spec if self.pipeline is None else self.pipeline.spec

    def check(self, settings: Settings) -> None:
        """Raises SettingsError for what the pipeline cannot do, or the one that is about to follow it, and for words that the
        server does not take."""
        self.config.words.check(settings)
        for pipeline in (self.pipeline, *self._incoming[:1]):
            if pipeline is not None:
                pipeline.check(settings)

    @property
    def opening(self) -> Settings:
        """What a session starts with: the configuration's, as far as the pipeline takes it."""
        return fitted_settings(self.config.opening, self.check)[0]

    def facts(self, token: bool) -> dict[str, object]:
        """What a welcome holds on the pipeline, and on what a client with or without the token may change."""
        pipeline, rule = self.fleet.loaded.result(0), self.config.changes
        if not self._offered:
            started = self.config.spec
            self._offered = {
                "model": list(dict.fromkeys([started.model, *rule.models()])),
                "loras": list(dict.fromkeys([*(use.name for use in started.loras), *rule.loras()])),
            }
        change = {**self._offered, **choices(pipeline.spec, pipeline.hires_choices)}
        refusal = self.refusal(token)
        return facts(pipeline) | {"change": change if refusal is None else {**change, "refused": refusal}}

    def standing(self, session: Session) -> dict[str, object]:
        """The settings of a session, and how their prompts are read."""
        settings, names = session.settings, (session.names,) if len(session.names) else ()
        understood = self.fleet.loaded.result(0).understood(settings, *names).listed()
        return {"version": settings.version, "values": settings.flat(), **understood}

    def refusal(self, token: bool) -> str | None:
        """Why a client that has, or has not, shown the token may not change the spec now, None if it may."""
        return self.config.changes.refusal(self.seats.connected, token)

    @property
    def max_connections(self) -> int:
        """The bound of `connections`."""
        return 2 * self.limits.max_sessions + self.limits.max_waiting + 16

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """One of `connections` while it lasts. Raises Refusal full. Those without hello are counted by
        studio/wire/admission.py."""
        if self.connections >= self.max_connections:
            raise Refusal("full", "too many connections; try again later")
        self.connections += 1
        try:
            yield
        finally:
            self.connections -= 1

    def token_valid(self, token: str) -> bool:
        """Is this the API token? Takes the same time for every wrong one."""
        return hmac.compare_digest(token.encode("utf-8", "surrogatepass"), self.config.token.encode())

    def health(self) -> tuple[int, dict[str, object]]:
        """HTTP status and body of /healthz: public, so it names no path and no reason; those are in the log."""
        loaded = self.fleet.loaded
        if not loaded.done():
            return 503, {"status": "loading", "seconds": round(self.clock() - self.started_at, 1)}
        if loaded.exception() is not None:
            return 500, {"status": "failed"}
        if self.fleet.stalled_s() > STALLED_S:
            return 503, {"status": "stalled", "seconds": round(self.fleet.stalled_s(), 1)}
        name = loaded.result().info.name
        model = name if name in REGISTRY else "custom"
        return 200, {"status": "ok", "model": model, "sessions": self.seats.connected}

    def open(self, settings: Settings) -> tuple[Seat, Stream]:
        """A new session. Raises SeatError."""
        seat, evicted = self.seats.open(settings)
        seat.began = self.clock()
        self._return_at = 0.0
        if evicted is not None:
            self._forget(evicted)
            self._return(but=1)
        self.fleet.assign(seat.session.name)
        stream = self._streams[seat.session.name] = Stream.on_running_loop(seat.session, self._services)
        return seat, stream

    def resume(self, token: str) -> tuple[Seat, Stream]:
        """An earlier session. Raises SeatError."""
        seat = self.seats.resume(token, self.clock())
        self._graphs.sessions_changed()
        return seat, self._streams[seat.session.name]

    def view(self, resume: str, key: str = "") -> str | None:
        """The view-only token of the session with that resume token, or of the output place with that key, where the session is
        from now on; None if there is no such session. Raises ViewError for what is no key."""
        seat = self.seats.holder(resume)
        if seat is None:
            return None
        stream = self._streams[seat.session.name]
        return self.views.put(key, stream) if key else self.views.token(seat.session.name, stream)

    def on_stage(self) -> Stream | None:
        """The stream of the connected session whose turn began first, None without one."""
        turns = self.seats.turns()
        return self._streams[min(turns, key=turns.__getitem__)] if turns else None

    def prepare(self, settings: Settings, session: str) -> Future[None]:
        """Build the graphs that this session's settings use best, beside the stream that keeps running on those it has."""
        if session in self._streams:
            self.fits.update(self._streams[session])
        return self._graphs.prepare(settings, session)

    def _of_its_painter(self, stream: Stream, style: PictureStyle) -> bool:
        return self.config.fit_share > 0.0 and self.fleet.pipeline(stream.session.name).pictures.owns(style)

    def _prepare_ahead(self) -> None:
        """Any thread."""
        if self.config.ahead:
            self._graphs.ahead(self.config.opening)

    def leave(self, seat: Seat) -> None:
        """The connection has ended without a bye: the seat is kept for the grace period; nothing more is built for it."""
        self.seats.leave(seat, self.clock())
        self.fits.drop(seat.session.name)
        self._graphs.drop(seat.session.name)

    def change(
        self, changes: Mapping[str, object], requester: str, token: bool, request: int | None
    ) -> asyncio.Task[ProtocolError | None]:
        """Begin to change the spec for all sessions. The task results in the error if it failed: then nothing has changed.

        requester: the session that requests it. Raises ProtocolError: forbidden, busy, or bad_spec.
        """
        refusal = self.config.changes.refusal(self.seats.connected, token)
        if refusal is not None:
            raise ProtocolError(refusal, code="forbidden", field="spec")
        if self._changing is not None and not self._changing.done():
            raise ProtocolError("another change is under way; wait until it is done", code="busy", field="spec")
        started, rule = self.config.spec, self.config.changes
        known = {use.name for use in started.loras}
        spec = merged_spec(
            self.spec(),
            changes,
            lambda model: model == started.model or rule.allows(model),
            lambda name: name in known or rule.allows_lora(name),
        )
        before = self._operators or self.spec()

        def changed() -> None:
            self._operators = None if self.spec() == before else before

        self._changing = asyncio.create_task(self._change(spec, changes, changed, requester, request))
        self._changing.add_done_callback(lambda _: self._return())
        return self._changing

    def returning(self) -> asyncio.Task[ProtocolError | None] | None:
        """The change that is in progress while there is no session; a new client waits for it, and gets the operator's spec.

        Starts the return to that spec where it is due: a client can come between the end of a change and its done callback.
        """
        self._return()
        under_way = self._changing is not None and not self._changing.done()
        return self._changing if under_way and not len(self.seats) else None

    def _return(self, but: int = 0) -> None:
        """Return to the operator's spec if another one runs and there are no sessions, but for `but` new ones."""
        under_way = self._changing is not None and not self._changing.done()
        if self._operators is None or len(self.seats) > but or under_way or self._closed or self.clock() < self._return_at:
            return
        self._return_at = self.clock() + RETURN_AGAIN_S
        log.info("all visitors have left: the pipeline goes back to the operator's spec")

        def changed() -> None:
            self._operators = None

        self._changing = asyncio.create_task(self._change(self._operators, {}, changed))

    async def _change(
        self,
        spec: StreamSpec,
        changes: Mapping[str, object],
        changed: Callable[[], None],
        requester: str | None = None,
        request: int | None = None,
    ) -> ProtocolError | None:
        """requester: the session that requested it; None for the return to the operator's spec. changed: called once `spec`
        runs."""
        failure = None
        log.info("the pipeline changes to %s", spec)
        wishes = [seat.session.settings for seat in self.seats.present()] or [self.config.opening]
        try:
            specs = self.config.each(spec)
            in_place = await asyncio.wrap_future(self._changer.submit(lora_changes.planned, self.fleet.pipelines(), specs))
            if in_place is not None:
                await lora_changes.alter(self.fleet, in_place, self._announced({}, requester, request))
                changed()
                return None
            self._building = self._changer.submit(self._build, specs, wishes)
            pipelines = await asyncio.wrap_future(self._building)
            if requester is not None and not len(self.seats):
                log.info("the pipeline stays as it is: all visitors have left")
                self._discard(pipelines)
            else:
                await self._swap(pipelines, requester, request)
                changed()
        except Exception as error:  # out of memory, a broken file, a compiler's error: the present pipeline stays
            log.error("the pipeline cannot be changed: %s", error, exc_info=not isinstance(error, RillError))
            failure = client_error(error, changes)
            drop_tracebacks(error)
        from pipelines import release_memory  # torch is imported by now

        with contextlib.suppress(RuntimeError):  # the server is stopping
            self._changer.submit(release_memory)
        return failure

    def _build(self, specs: Sequence[StreamSpec], wishes: Sequence[Settings]) -> list[StreamPipeline]:
        """Pipelines for these specs, in the changer's thread. Raises what building raises, or CancelledError after `close`."""
        pipelines = build(self._factory, specs, wishes)
        if self._closed:
            self._discard(pipelines)
            raise CancelledError
        return pipelines

    def _discard(self, pipelines: Sequence[StreamPipeline]) -> None:
        for pipeline in pipelines:
            pipeline.close()

    async def _swap(self, pipelines: Sequence[StreamPipeline], requester: str | None, request: int | None) -> None:
        """Fit all sessions' settings to the pipelines, then swap. Meanwhile no session can set what these cannot do."""
        adjusted = {}
        try:
            for name, stream in self._streams.items():
                settings, reasons = fitted_settings(stream.session.settings, pipelines[0].check)
                adjusted[name] = (settings, reasons)
        except BaseException:
            self._discard(pipelines)
            raise
        for name, (settings, _) in adjusted.items():
            self._streams[name].session.settings = settings
        self._incoming = pipelines
        on_swapped = self._announced({name: reasons for name, (_, reasons) in adjusted.items()}, requester, request)
        try:
            await asyncio.gather(*map(asyncio.wrap_future, self.fleet.swap(pipelines, on_swapped)))
        finally:
            self._incoming = ()
        self._prepare_ahead()
        for seat in self.seats.present():
            self.prepare(seat.session.settings, seat.session.name)

    def _announced(self, adjusted: Mapping[str, Mapping[str, str]], requester: str | None, request: int | None) -> OnSwapped:
        """Sends `spec` to the sessions of an owner. adjusted: session → what of its settings had to change, and why."""

        def on_swapped(sessions: frozenset[str], lost: LostFrames) -> None:
            for name, stream in list(self._streams.items()):
                if name in sessions:
                    answers = request if name == requester else None
                    describe = partial(self._spec_message, stream, adjusted.get(name, {}), answers)
                    stream.callbacks.pipeline_swapped(lost.get(name, ()), describe)

        return on_swapped

    def _spec_message(self, stream: Stream, adjusted: Mapping[str, str], request: int | None) -> str:
        """The `spec` message for one session."""
        standing, fields = self.standing(stream.session), declare(FIELDS, self.opening.flat())
        changed = {"settings": standing, "fields": fields, "adjusted": dict(adjusted)}
        return pack_text("spec", **facts(self.fleet.pipeline(stream.session.name)), **changed, request=request)

    def end(self, seat: Seat) -> None:
        """The session has ended: drop its state."""
        self.seats.end(seat)
        self._forget(seat)
        self._return()

    def sweep(self) -> None:
        """End the sessions whose grace has run out; call it about once a second."""
        for seat in self.seats.sweep(self.clock()):
            self._forget(seat)
        self._return()

    def close(self) -> None:
        """Stop the models' threads, then the codec pool. Blocks, but not for a graph or a pipeline that takes long to build."""
        self._closed = True
        self.fits.fitter.close()
        self._changer.shutdown(wait=False, cancel_futures=True)
        self._graphs.close(0.0)
        self.fleet.close()
        if not self._graphs.close(CLOSE_S):
            log.warning("a graph is still being built; the server does not wait for it")
        if self._building is not None and wait([self._building], CLOSE_S).not_done:
            log.warning("a pipeline is still being built; the server does not wait for it")
        self.pool.shutdown(wait=True, cancel_futures=True)

    def _forget(self, seat: Seat) -> None:
        self.views.end(seat.session.name, self._streams.pop(seat.session.name, None))
        self.fleet.forget(seat.session.name)
        self.fits.drop(seat.session.name)
        self._graphs.drop(seat.session.name)
