"""What visitors have changed ends with them: when all have left, the pipeline goes back to the operator's spec."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from pipelines import ModelError, Settings
from studio.visit.hub import Hub
from studio.wire.limits import Limits
from studio.wire.protocol import ProtocolError
from tests.studio.harness import SIZE, TOKEN, Peer, Running, coloured, connected, joined
from tests.studio.visit.spec_changes import change, serving_factory

GREY = coloured(100, 100, 100)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


async def goodbye(peer: Peer) -> None:
    await peer.send("bye")
    await peer.closed()


def back(running: Running) -> bool:
    return running.hub.spec().width == SIZE and running.hub.returning() is None


async def test_a_client_after_a_visitor_gets_the_operators_spec() -> None:
    with serving_factory(opening=Settings(prompt="green")) as (factory, running):
        started = running.hub.spec()
        for changes in ({"width": 192}, {"backend": "openvino", "height": 256}):
            async with joined(running, settings={"prompt": "red"}) as peer:
                await change(peer, **changes)
                await goodbye(peer)
            async with joined(running) as next_one:
                spec, values = next_one.welcome["spec"], next_one.welcome["settings"]["values"]
                assert (spec["width"], spec["height"], spec["backend"]) == (SIZE, SIZE, started.backend)
                assert values["prompt"] == "green", "settings are the operator's too"
                assert (await next_one.round(GREY)).verdict == "generated"
                await goodbye(next_one)
        assert running.hub.spec() == started and [made.closed for made in factory.made] == [True] * 4 + [False]


async def test_a_newcomer_waits_for_the_operators_pipeline() -> None:
    with serving_factory() as (factory, running):
        async with joined(running) as peer:
            await change(peer, width=192)
            factory.proceed.clear()
            factory.building.clear()
            await goodbye(peer)
        assert await asyncio.to_thread(factory.building.wait, 10)
        async with connected(running) as first, connected(running) as second:
            for peer in (first, second):
                await peer.send("hello", protocol=1)
                assert (await peer.next_text("loading", "welcome"))["type"] == "loading"
            factory.proceed.set()
            for peer in (first, second):
                assert (await peer.next_text("welcome"))["spec"]["width"] == SIZE


async def test_a_session_in_its_grace_keeps_what_it_changed() -> None:
    with serving_factory() as (factory, running):
        async with joined(running) as peer:
            await change(peer, width=192)
            peer.socket.transport.abort()  # type: ignore[attr-defined]
        hub = running.hub
        await until(lambda: hub.seats.connected == 0)
        hub.clock = lambda: time.perf_counter() + hub.limits.grace_s - 30
        async with joined(running, resume=peer.welcome["resume"]) as again:
            assert again.welcome["resumed"] and again.welcome["spec"]["width"] == 192 and len(factory.made) == 2
            again.socket.transport.abort()  # type: ignore[attr-defined]
        await until(lambda: hub.seats.connected == 0)
        hub.clock = lambda: time.perf_counter() + 3 * hub.limits.grace_s
        await until(lambda: back(running))
        assert len(factory.made) == 3


async def test_it_stays_while_anybody_is_here() -> None:
    with serving_factory() as (factory, running):
        async with joined(running) as other:
            async with joined(running, token=TOKEN) as peer:
                await change(peer, width=192)
                await goodbye(peer)
            running.hub.sweep()
            async with joined(running) as third:
                assert third.welcome["spec"]["width"] == 192
                await goodbye(third)
            await goodbye(other)
        await until(lambda: back(running))
        assert len(factory.made) == 3


async def test_a_change_under_way_when_the_last_client_leaves_is_discarded() -> None:
    with serving_factory() as (factory, running):
        factory.proceed.clear()
        async with joined(running) as peer:
            await peer.send("spec", spec={"width": 192})
            assert await asyncio.to_thread(factory.building.wait, 10)
            await goodbye(peer)
        async with connected(running) as newcomer:
            await newcomer.send("hello", protocol=1)
            assert (await newcomer.next_text("loading", "welcome"))["type"] == "loading"
            factory.proceed.set()
            welcome = await newcomer.next_text("welcome")
            assert welcome["spec"]["width"] == SIZE
        assert [made.closed for made in factory.made] == [False, True], "the discarded pipeline is closed, and never runs"


async def test_a_second_change_that_is_under_way_is_followed_by_the_way_back() -> None:
    with serving_factory() as (factory, running):
        async with joined(running) as peer:
            await change(peer, width=192)
            factory.proceed.clear()
            factory.building.clear()
            await peer.send("spec", spec={"width": 256})
            assert await asyncio.to_thread(factory.building.wait, 10)
            await goodbye(peer)
        factory.proceed.set()
        async with joined(running) as newcomer:
            assert newcomer.welcome["spec"]["width"] == SIZE


async def test_a_client_at_the_very_end_of_a_change_waits_for_the_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the end of the change and its done callback the loop may run the connection of a newcomer."""
    change_of, seen = Hub._change, []

    async def and_somebody_comes(hub: Hub, *values: Any) -> ProtocolError | None:
        failure = await change_of(hub, *values)
        asyncio.get_running_loop().call_soon(lambda: seen.append(hub.returning()))
        return failure

    with serving_factory() as (factory, running):
        async with joined(running) as peer:
            await change(peer, width=192)
            monkeypatch.setattr(Hub, "_change", and_somebody_comes)
            factory.proceed.clear()
            factory.building.clear()
            await peer.send("spec", spec={"width": 256})
            assert await asyncio.to_thread(factory.building.wait, 10)
            await goodbye(peer)
        factory.proceed.set()
        await until(lambda: back(running) and len(seen) == 2)
        assert seen[0] is not None, "the newcomer waits"
        assert seen[1] is None, "nothing is in progress after the return"


async def test_back_by_hand_is_back() -> None:
    with serving_factory() as (factory, running):
        async with joined(running) as peer:
            await change(peer, width=192)
            await change(peer, width=SIZE)
            await goodbye(peer)
        await until(lambda: len(running.hub.seats) == 0)
        running.hub.sweep()
        assert running.hub.returning() is None and len(factory.made) == 3


async def test_a_way_back_that_fails_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    with serving_factory() as (factory, running):
        async with joined(running) as peer:
            await change(peer, width=192)
            factory.error = ModelError("the disk is gone")
            with caplog.at_level(logging.INFO, "rill"):
                await goodbye(peer)
                await until(lambda: "the disk is gone" in caplog.text and running.hub.returning() is None)
        running.hub.sweep()
        assert running.hub.returning() is None, "not every second"
        async with joined(running) as visitor:
            assert visitor.welcome["spec"]["width"] == 192 and (await visitor.round(GREY)).verdict == "generated"
            factory.error = None
            await goodbye(visitor)
        await until(lambda: back(running))


async def test_a_failed_way_back_is_tried_again_after_a_while_without_a_client() -> None:
    with serving_factory() as (factory, running):
        async with joined(running) as peer:
            await change(peer, width=192)
            factory.error = ModelError("the disk is gone")
            factory.building.clear()
            await goodbye(peer)
        assert await asyncio.to_thread(factory.building.wait, 10)
        await until(lambda: running.hub.returning() is None)
        factory.error = None
        running.hub.clock = lambda: time.perf_counter() + 120
        await until(lambda: back(running))


async def test_a_client_in_the_place_of_one_in_grace_gets_the_operators_spec() -> None:
    with serving_factory(Limits(max_sessions=1)) as (_, running):
        async with joined(running) as peer:
            await change(peer, width=192)
            peer.socket.transport.abort()  # type: ignore[attr-defined]
        await until(lambda: running.hub.seats.connected == 0)
        async with joined(running) as newcomer:
            if newcomer.welcome["spec"]["width"] != SIZE:
                assert (await newcomer.next_text("spec"))["spec"]["width"] == SIZE
            assert (await newcomer.round(GREY)).verdict == "generated"


async def test_a_client_from_the_line_gets_the_operators_spec() -> None:
    with serving_factory(Limits(max_sessions=1)) as (_, running):
        async with joined(running) as peer, connected(running) as waiting:
            await change(peer, width=192)
            await waiting.send("hello", protocol=1, wait=True)
            await waiting.next_text("waiting")
            await goodbye(peer)
            assert (await waiting.next_text("welcome"))["spec"]["width"] == SIZE


async def test_all_devices_go_back() -> None:
    with serving_factory(devices=("cpu", "cpu")) as (factory, running):
        async with joined(running) as peer:
            await change(peer, width=192)
            await goodbye(peer)
        await until(lambda: back(running))
        widths: list[Any] = [owner.loaded.result(0).spec.width for owner in running.hub.fleet.owners]
        assert widths == [SIZE, SIZE] and [made.closed for made in factory.made] == [True] * 4 + [False] * 2
