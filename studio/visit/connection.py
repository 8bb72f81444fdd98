"""One websocket from hello to close. Knows the protocol and the hub, and of the web framework only a Socket.

enter:  hello → token → model → seat → welcome
serve:  reading, delivering and watching side by side, until the first of them ends
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Any

from pipelines import FIELDS, RillError, Settings, SettingsError
from studio.model.change import fitted_settings
from studio.stream.mailbox import Mailbox
from studio.stream.stream import Stream
from studio.visit.hub import Hub
from studio.visit.seats import Seat, SeatError
from studio.visit.spec_changes import SpecChanges
from studio.visit.visitor import Visitor
from studio.wire.limits import TokenBucket
from studio.wire.protocol import (
    CLOSE_CODES,
    NORMAL,
    VERSION,
    Bye,
    FitWish,
    Hello,
    Keep,
    Patch,
    Pause,
    Ping,
    ProtocolError,
    References,
    SpecChange,
    declare,
    error_text,
    is_mask,
    is_name,
    is_picture,
    pack_text,
    parse_text,
)
from studio.wire.refusal import Refusal
from studio.wire.sockets import Disconnected, Socket

log = logging.getLogger("rill")


BUILD_WAIT_S = 3.0
"""A welcome waits this long for the graphs of unusual settings: most are in the cache, the others take up to a minute."""


class Connection:
    """Runs one connection. `must_show_token`: it came without an Origin, or has not signed in."""

    def __init__(self, socket: Socket, hub: Hub, must_show_token: bool) -> None:
        self._socket = socket
        self._hub = hub
        self._must_show_token = must_show_token
        limits = hub.limits
        self._messages = TokenBucket(limits.messages_per_s, 2 * limits.messages_per_s)
        self._bytes = TokenBucket(limits.bytes_per_s, 2 * limits.bytes_per_s)
        self._errors = TokenBucket(limits.errors_per_s, limits.errors_at_once)
        self._message_at = self._frame_at = hub.clock()
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._bye = self._turn_announced = self._has_token = False
        self._receiving: asyncio.Future[str | bytes] | None = None

    async def run(self) -> None:
        """The whole life of the connection. Returns when it is closed."""
        try:
            hello = await self._hello()
            with self._hub.counted():
                seat, stream = await self._enter(hello)
                await self._serve(seat, stream)
                await self._socket.close(NORMAL, "")  # after a bye; everything else ends with an exception
        except Refusal as refusal:
            await self._refuse(refusal)
        except Disconnected:
            pass
        finally:
            if self._receiving is not None:
                self._receiving.cancel()
                await asyncio.gather(self._receiving, return_exceptions=True)

    async def _refuse(self, refusal: Refusal) -> None:
        self._hub.metrics.refusals.labels(refusal.code).inc()
        try:
            async with asyncio.timeout(5.0):  # a peer that does not read must not delay the end
                await self._socket.send(error_text(refusal.code, refusal.message, fatal=True, field=refusal.field))
                await self._socket.close(refusal.close, refusal.code)
        except (Disconnected, TimeoutError):
            pass

    # Enter.

    async def _enter(self, hello: Hello) -> tuple[Seat, Stream]:
        if self._must_show_token and hello.token is None:
            raise Refusal("unauthorized", "a client without a login on the page needs the API token", field="token")
        if hello.token is not None and not self._hub.token_valid(hello.token):
            raise Refusal("unauthorized", "the token is wrong", field="token")
        self._has_token = hello.token is not None
        await self._model()
        try:
            if hello.resume is not None:
                seat, stream = self._hub.resume(hello.resume)
            else:
                seat, stream = await self._take_seat(hello.wait)
        except SeatError as error:
            raise Refusal(error.code, str(error)) from error
        try:
            await self._welcome(hello, seat, stream)
        except (Refusal, Disconnected):
            stream.detach()
            self._hub.leave(seat) if hello.resume is not None else self._hub.end(seat)
            raise
        return seat, stream

    async def _take_seat(self, wait: bool) -> tuple[Seat, Stream]:
        """A seat, after waiting in the line if `wait` is true. Raises SeatError, Refusal, Disconnected."""
        if not len(self._hub.line):
            try:
                return self._hub.open(self._hub.opening)
            except SeatError:
                if not wait:
                    raise
        elif not wait:
            raise SeatError("full", "others are waiting for a place; try again later")
        visitor = Visitor(self._socket, self._hub, self._messages)
        try:
            return await visitor.wait()
        finally:
            self._receiving = visitor.receiving

    async def _hello(self) -> Hello:
        try:
            async with asyncio.timeout(self._hub.limits.hello_s):
                message = await self._socket.receive()
        except TimeoutError as error:
            raise Refusal("timeout", f"no hello within {self._hub.limits.hello_s:g} s") from error
        if isinstance(message, bytes):
            raise Refusal("bad_message", "the first message must be hello, and text")
        try:
            hello = parse_text(message)
        except ProtocolError as error:
            raise Refusal("bad_message", error.message, field=error.field) from error
        if not isinstance(hello, Hello):
            raise Refusal("bad_message", "the first message must be hello", field="type")
        return hello

    async def _model(self) -> None:
        hub = self._hub
        while not (loaded := hub.fleet.loaded).done():  # where there are several devices, one after the other
            await self._await(loaded, "the model is being loaded", hub.started_at)
        error = loaded.exception()
        if error is not None:
            message = str(error) if isinstance(error, RillError) else f"the model cannot be loaded ({type(error).__name__})"
            raise Refusal("model_failed", message)
        while (change := hub.returning()) is not None:
            await self._await(change, "the model is being loaded", hub.clock())

    async def _await(self, work: Future[Any] | asyncio.Future[Any], message: str, since: float) -> None:
        """Wait until `work` has ended, with or without an error; send `loading` to the client once a second."""
        # Not asyncio.wrap_future: cancelling this connection would cancel the work that all are waiting for.
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        work.add_done_callback(lambda _: None if loop.is_closed() else loop.call_soon_threadsafe(ended.set))
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await ended.wait()
                return
            await self._socket.send(pack_text("loading", message=message, elapsed_s=round(self._hub.clock() - since, 1)))

    async def _welcome(self, hello: Hello, seat: Seat, stream: Stream) -> None:
        session, limits, hub = seat.session, self._hub.limits, self._hub
        try:
            settings = session.settings.patched(hello.settings) if hello.settings else session.settings
            hub.check(settings)
        except SettingsError as error:
            raise Refusal("bad_settings", str(error), field=error.field, close=CLOSE_CODES["bad_message"]) from error
        with contextlib.suppress(TimeoutError):  # the graphs at hand will do meanwhile
            async with asyncio.timeout(BUILD_WAIT_S):
                await self._await(hub.prepare(settings, session.name), "graphs are being built for these settings", hub.clock())
        settings, _ = fitted_settings(settings, hub.check)  # another pipeline may have come meanwhile
        session.settings, session.encoding, session.every = settings, hello.picture, hello.delivery == "every"
        seat.takeover = self._taken_over
        stream.attach(on_error=self._count_error)
        hub.fits.update(stream)
        await self._socket.send(
            pack_text(
                "welcome",
                protocol=VERSION,
                session=session.name,
                resume=seat.resume,
                at=hub.config.name,
                resumed=hello.resume is not None,
                grace_s=limits.grace_s,
                last_frame_id=session.last_id,
                paused=session.paused,
                limits=limits.public(),
                **hub.facts(self._has_token),
                settings=hub.standing(session),
                fields=declare(FIELDS, hub.opening.flat()),
            )
        )
        log.info(
            "session %s: %s%s", session.name, "resumed" if hello.resume else "begun", f" by {hello.client}" * bool(hello.client)
        )

    def _taken_over(self) -> None:
        self._stop(Refusal("taken_over", "this session went on in another connection"))

    def _stop(self, refusal: Refusal) -> None:
        if not self._end.done():
            self._end.set_exception(refusal)

    # Serve.

    async def _serve(self, seat: Seat, stream: Stream) -> None:
        self._frame_at = self._message_at = self._hub.clock()
        mailbox = stream.outbound.mailbox
        changes = SpecChanges(self._hub, stream, mailbox, self._has_token)
        tasks = [
            asyncio.ensure_future(self._read(stream, mailbox, changes)),
            asyncio.ensure_future(stream.outbound.deliver(mailbox, self._socket)),
            asyncio.ensure_future(self._watch(stream, mailbox)),
        ]
        try:
            done, _ = await asyncio.wait([*tasks, self._end], return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await changes.close()
            if not self._end.cancel():
                self._end.exception()  # seen, if it came too late to matter
            self._leave(seat, stream)

    def _leave(self, seat: Seat, stream: Stream) -> None:
        if seat.takeover != self._taken_over:
            return  # another connection has taken the seat
        stream.detach()
        if self._bye:
            seat.session.detach()
            self._hub.end(seat)
        else:
            self._hub.leave(seat)
        stream.export_counts()
        log.info("session %s: %s", seat.session.name, "ended" if self._bye else "left")

    async def _read(self, stream: Stream, mailbox: Mailbox, changes: SpecChanges) -> None:
        clock, metrics = self._hub.clock, self._hub.metrics.bytes.labels("in")
        await self._add_loras(mailbox, changes)
        while not self._bye:
            # A message that came while the client waited for its seat is read first.
            message = await (self._socket.receive() if self._receiving is None else self._receiving)
            self._receiving = None
            self._message_at = now = clock()
            metrics.inc(len(message))
            stream.window.received(len(message))
            if not (self._messages.take(1, now) and self._bytes.take(len(message), now)):
                raise Refusal("flood", "more messages or bytes per second than this server takes")
            try:
                if isinstance(message, bytes) and is_mask(message):
                    await mailbox.post_blocking(await stream.inbound.receive_mask(message))
                elif isinstance(message, bytes) and is_picture(message):
                    await self._with_names(stream, mailbox, stream.inbound.receive_picture_prompt(message))
                    self._hub.prepare(stream.session.settings, stream.session.name)
                elif isinstance(message, bytes) and is_name(message):
                    await self._with_names(stream, mailbox, stream.inbound.receive_name(message))
                elif isinstance(message, bytes):
                    self._frame_at = now
                    stream.inbound.receive_frame(message, now)
                else:
                    await self._handle_text(stream, mailbox, changes, message)
            except ProtocolError as error:
                await self._report(mailbox, error)

    async def _report(self, mailbox: Mailbox, error: ProtocolError) -> None:
        self._hub.metrics.errors.labels(error.code).inc()
        await mailbox.post_blocking(error_text(error.code, error.message, field=error.field, request=error.request))
        self._count_error(error.code)

    def _count_error(self, code: str) -> None:
        """Too many errors of the client end the connection. Failures of the model do not count."""
        if code != "model_error" and not self._errors.take(1, self._hub.clock()):
            self._stop(Refusal("bad_message", "too many errors"))

    async def _handle_text(self, stream: Stream, mailbox: Mailbox, changes: SpecChanges, text: str) -> None:
        session = stream.session
        match parse_text(text):
            case Patch(patch, request):
                session.settings = self._patched(session.settings, patch, request)
                self._hub.prepare(session.settings, session.name)
                await mailbox.post_blocking(pack_text("settings", **self._hub.standing(session), request=request))
                await self._add_loras(mailbox, changes)
            case SpecChange(wanted, request):
                changes.begin(wanted, request)
            case Pause(paused):
                session.pause(paused)
                await mailbox.post_blocking(pack_text("pause", paused=paused))
            case References(wanted):
                session.wants_references = wanted
                await mailbox.post_blocking(pack_text("references", wanted=wanted))
            case FitWish(wanted):
                session.wants_fit = wanted
                await mailbox.post_blocking(pack_text("fit", wanted=wanted))
                self._hub.fits.update(stream)
            case Keep(name, request):
                await self._with_names(stream, mailbox, stream.inbound.keep_style(name, request))
            case Ping(t):
                await mailbox.post_blocking(pack_text("pong", t=t))
            case Bye():
                self._bye = True
            case Hello():
                raise ProtocolError("hello is the first message, and may not be sent again", field="type")

    async def _with_names(self, stream: Stream, mailbox: Mailbox, reply: Awaitable[str]) -> None:
        """Send a reply; then how the prompts are read, if they may name another style now."""
        before = stream.session.names
        await mailbox.post_blocking(await reply)
        if stream.session.names is not before:
            self._hub.prepare(stream.session.settings, stream.session.name)
            await mailbox.post_blocking(pack_text("settings", **self._hub.standing(stream.session)))

    def _patched(self, settings: Settings, patch: object, request: int | None) -> Settings:
        assert isinstance(patch, dict)
        try:
            changed = settings.patched(patch)
            self._hub.check(changed)
        except SettingsError as error:
            raise ProtocolError(str(error), code="bad_settings", field=error.field, request=request) from error
        return changed

    async def _add_loras(self, mailbox: Mailbox, changes: SpecChanges) -> None:
        try:
            changes.begin_loras()
        except ProtocolError as error:
            await self._report(mailbox, error)

    def _keep_turn(self, stream: Stream, mailbox: Mailbox, now: float) -> None:
        """While others wait a turn has an end: announce it, and end the connection when it has come."""
        line = self._hub.line
        end = line.ends(self._hub.seats.turns()).get(stream.session.name)
        if end is not None and now >= end:
            self._bye = True  # nothing is kept: the seat is given to another client
            raise Refusal("turn_over", "your turn is over, because others were waiting")
        left = None if end is None else round(end - now, 1)
        if left is not None or self._turn_announced:
            watched = True if self._hub.config.watch_waiting and len(line) else None
            mailbox.post_or_drop(pack_text("turn", ends_in_s=left, waiting=len(line), watched=watched))
        self._turn_announced = left is not None

    async def _watch(self, stream: Stream, mailbox: Mailbox) -> None:
        hub, limits, session = self._hub, self._hub.limits, stream.session
        while True:
            await asyncio.sleep(limits.telemetry_s)
            now = hub.clock()
            if now - self._message_at > 3 * limits.ping_s:
                raise Refusal("timeout", f"no message for {3 * limits.ping_s:g} s")
            if now - self._frame_at > limits.idle_s:
                raise Refusal("idle", f"no frame for {limits.idle_s:g} s")
            self._keep_turn(stream, mailbox, now)
            stream.export_counts()
            report = stream.window.report(now, session.totals, session.drops)
            refused = hub.refusal(self._has_token)
            mailbox.post_or_drop(pack_text("telemetry", **report, sessions=hub.seats.connected, refused=refused))
