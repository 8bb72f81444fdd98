"""What all connections share: sessions that come, stay and go, what /healthz answers, and an end that is bounded."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pipelines import Settings, SettingsError, StreamSpec
from studio.visit import hub as hub_module
from studio.visit.blocklist import Blocklist
from studio.visit.config import ServerConfig
from studio.visit.hub import Hub
from studio.visit.seats import SeatError
from studio.wire.limits import Limits
from studio.wire.protocol import ProtocolError
from studio.wire.refusal import Refusal
from tests.studio.fake import FakePipeline

SPEC = StreamSpec(width=128, height=128)


@contextmanager
def hub_with(factory: Any = FakePipeline, **config: Any) -> Iterator[Hub]:
    """A hub whose model is loaded."""
    made = Hub(ServerConfig(SPEC, **config), factory)
    made.start()
    made.fleet.loaded.result(20)
    try:
        yield made
    finally:
        made.close()


class SlowSecond:
    """A factory whose pipelines take until `go` is set, but for the first."""

    def __init__(self) -> None:
        self.made: list[FakePipeline] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, spec: StreamSpec) -> Any:
        if self.made:
            self.begun.set()
            assert self.go.wait(60), "a test forgot to let the build go"
        self.made.append(FakePipeline(spec))
        return self.made[-1]


async def test_the_end_does_not_wait_for_a_pipeline_that_is_being_built(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hub_module, "CLOSE_S", 0.02)
    factory = SlowSecond()
    with hub_with(factory) as hub, caplog.at_level(logging.WARNING, "rill"):
        seat, _ = hub.open(Settings())
        change = hub.change({"width": 192}, seat.session.name, False, None)
        assert await asyncio.to_thread(factory.begun.wait, 20)
        async with asyncio.timeout(40):
            await asyncio.to_thread(hub.close)
        assert "a pipeline is still being built" in caplog.text and not factory.go.is_set()
        factory.go.set()
        with pytest.raises(asyncio.CancelledError):
            await change
        assert [pipeline.closed for pipeline in factory.made] == [True, True], "what was built too late is released"


async def test_the_end_waits_for_a_pipeline_that_is_nearly_built(caplog: pytest.LogCaptureFixture) -> None:
    factory = SlowSecond()
    with hub_with(factory) as hub, caplog.at_level(logging.WARNING, "rill"):
        seat, _ = hub.open(Settings())
        change = hub.change({"width": 192}, seat.session.name, False, None)
        assert await asyncio.to_thread(factory.begun.wait, 20)
        factory.go.set()
        await asyncio.to_thread(hub.close)
        await asyncio.gather(change, return_exceptions=True)
        assert "still being built" not in caplog.text and all(pipeline.closed for pipeline in factory.made)


async def test_sessions_come_stay_for_their_grace_and_go() -> None:
    with hub_with(limits=Limits(max_sessions=2, grace_s=10.0)) as hub:
        now = 100.0
        hub.clock = lambda: now
        first, stream = hub.open(Settings())
        second, _ = hub.open(Settings())
        with pytest.raises(SeatError, match="all 2 places"):
            hub.open(Settings())
        hub.leave(first)
        assert hub.resume(first.resume) == (first, stream)
        hub.leave(first)
        third, _ = hub.open(Settings())
        with pytest.raises(SeatError) as caught:
            hub.resume(first.resume)
        assert caught.value.code == "resume_expired", "it made room"
        hub.leave(second)
        now += 11.0
        hub.sweep()
        with pytest.raises(SeatError):
            hub.resume(second.resume)
        hub.end(third)
        assert len(hub.seats) == 0 and not hub._streams


async def test_a_view_belongs_to_its_session() -> None:
    with hub_with() as hub:
        seat, _ = hub.open(Settings())
        token = hub.view(seat.resume)
        assert token is not None and hub.view(seat.resume) == token and hub.view("wrong") is None
        with hub.views.watch(token) as view:
            hub.end(seat)
            assert view.over
        assert hub.view(seat.resume) is None


def test_health_names_the_state_and_no_path() -> None:
    go = threading.Event()

    def slowly(spec: StreamSpec) -> Any:
        assert go.wait(20)
        return FakePipeline(spec)

    def fails(spec: StreamSpec) -> Any:
        raise ValueError("/home/somebody/secret.safetensors")

    hub = Hub(ServerConfig(SPEC), slowly)
    hub.start()
    assert hub.health()[0] == 503 and hub.health()[1]["status"] == "loading"
    go.set()
    hub.fleet.loaded.result(20)
    assert hub.health() == (200, {"status": "ok", "model": "custom", "sessions": 0})
    hub.fleet.owners[0]._stepping_since = hub.clock() - 61.0
    status, body = hub.health()
    assert (status, body["status"]) == (503, "stalled")
    hub.fleet.owners[0]._stepping_since = None
    hub.close()
    broken = Hub(ServerConfig(SPEC), fails)
    broken.start()
    with pytest.raises(ValueError):
        broken.fleet.loaded.result(20)
    assert broken.health() == (500, {"status": "failed"})
    broken.close()


async def test_settings_are_checked_for_words_and_for_the_pipeline() -> None:
    with hub_with(words=Blocklist(["forbidden word"])) as hub:
        hub.check(Settings(prompt="an allowed word"))
        with pytest.raises(SettingsError, match="prompt"):
            hub.check(Settings(prompt="a Forbidden, word"))
        with pytest.raises(SettingsError, match="steps"):
            hub.check(Settings(steps=8))


async def test_connections_are_counted_and_bounded() -> None:
    with hub_with(limits=Limits(max_sessions=1, max_waiting=0)) as hub:
        assert hub.max_connections == 18
        hub.connections = 17
        with hub.counted(), pytest.raises(Refusal, match="too many"), hub.counted():
            pass
        assert hub.connections == 17


async def test_one_change_at_a_time_and_only_by_permission() -> None:
    factory = SlowSecond()
    with hub_with(factory) as hub:
        one, _ = hub.open(Settings())
        change = hub.change({"width": 192}, one.session.name, False, None)
        with pytest.raises(ProtocolError) as caught:
            hub.change({"width": 256}, one.session.name, False, None)
        assert caught.value.code == "busy"
        factory.go.set()
        assert await change is None and hub.spec().width == 192
        hub.open(Settings())
        with pytest.raises(ProtocolError) as caught:
            hub.change({"width": 256}, one.session.name, False, None)
        assert caught.value.code == "forbidden"


def test_only_the_token_itself_is_valid() -> None:
    with hub_with(token="secret") as hub:
        assert hub.token_valid("secret") and not hub.token_valid("Secret") and not hub.token_valid("")
