"""Spec changes that fail, that are refused, or whose client or server goes away meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from pipelines import ModelError, Settings, SettingsError, StreamSpec
from studio.model.change import ChangeRule
from tests.studio.fake import FakePipeline
from tests.studio.harness import GREY, SIZE, TOKEN, connected, joined
from tests.studio.visit.spec_changes import change, serving_factory, size


@pytest.mark.parametrize(
    ("error", "field", "word"),
    [
        (ModelError("unet/config.json: is missing"), "model", "unet/config.json"),
        (MemoryError(), "width", "MemoryError"),
        (RuntimeError("CUDA out of memory"), "width", "RuntimeError"),
        (OSError(28, "No space left on device"), "width", "OSError"),
    ],
)
async def test_a_change_that_fails_leaves_everything_as_it_was(error: Exception, field: str, word: str) -> None:
    with serving_factory() as (factory, running):
        async with joined(running, settings={"prompt": "red"}) as peer:
            await peer.round(GREY)
            factory.error = error
            refusal = await change(peer, 9, width=192)
            assert (refusal["type"], refusal["code"], refusal["field"], refusal["request"]) == ("error", "bad_spec", field, 9)
            assert word in refusal["message"] and not refusal["fatal"]
            answer = await peer.round(GREY)
            assert size(answer) == (SIZE, SIZE) and factory.made[0].opened[-1].steps == 2, "the state was kept"
            factory.error = None
            assert (await change(peer, width=192))["type"] == "spec", "a failure does not block the next change"


async def test_a_pipeline_that_fails_its_rehearsal_is_never_used() -> None:
    with serving_factory() as (factory, running):
        async with joined(running) as peer:
            made = FakePipeline(StreamSpec(width=192, height=SIZE))

            def broken(settings: Settings, sessions: int = 1) -> None:
                raise RuntimeError("out of memory in the first step")

            made.rehearse = broken  # type: ignore[method-assign]
            running.hub._factory = lambda spec: made
            assert (await change(peer, width=192))["code"] == "bad_spec"
            assert made.closed and not factory.made[0].closed
            made.rehearse = lambda settings, sessions=1: None  # type: ignore[method-assign]

            def check(settings: Settings) -> None:
                raise SettingsError("seed", "nothing suits this model")

            made.check = check  # type: ignore[method-assign]
            assert (await change(peer, width=192))["field"] == "seed"
            assert (await peer.round(GREY)).verdict == "generated"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"width": 200}, "width"),
        ({"model": "../../etc"}, "model"),
        ({"model": "/"}, "model"),
        ({"backend": "x"}, "backend"),
        ({"steps": 1}, "steps"),
        ({}, "spec"),
        (5, "spec"),
    ],
)
async def test_a_wrong_spec_is_refused_by_name(spec: object, field: str) -> None:
    with serving_factory() as (factory, running):
        async with joined(running) as peer:
            await peer.send("spec", spec=spec, request=3)
            error = await peer.next_text("error", "spec")
            assert error["code"] in ("bad_spec", "bad_message") and (error["field"], error["request"]) == (field, 3)
            assert len(factory.made) == 1 and (await peer.round(GREY)).verdict == "generated"


async def test_one_change_at_a_time() -> None:
    with serving_factory() as (factory, running):
        async with joined(running, token=TOKEN) as one, joined(running, token=TOKEN) as two:
            factory.proceed.clear()
            await one.send("spec", spec={"width": 192}, request=1)
            assert await asyncio.to_thread(factory.building.wait, 10)
            busy = await change(two, 2, width=256)
            assert (busy["code"], busy["request"], busy["fatal"]) == ("busy", 2, False) and "under way" in busy["message"]
            assert (await change(one, 3, width=256))["code"] == "busy"
            factory.proceed.set()
            for peer in (one, two):
                assert (await peer.next_text("spec"))["spec"]["width"] == 192
            assert (await change(two, 4, width=256))["spec"]["width"] == 256


async def test_a_forbidden_change_is_refused_with_the_reason() -> None:
    with serving_factory() as (_, running):
        async with joined(running) as one:
            assert "refused" not in one.welcome["change"]
            async with joined(running) as two:
                assert "2 visitors" in two.welcome["change"]["refused"]
                error = await change(one, width=192)
                assert (error["code"], error["field"]) == ("forbidden", "spec") and "API token" in error["message"]
            while running.hub.seats.connected > 1:
                await asyncio.sleep(0.01)
            assert (await change(one, width=192))["type"] == "spec"
    for who, word in (("token", "public server"), ("never", "operator")):
        with serving_factory(changes=ChangeRule(who)) as (_, running):
            async with joined(running) as peer:
                error = await change(peer, width=192)
                assert error["code"] == "forbidden" and word in error["message"] and word in peer.welcome["change"]["refused"]
            async with joined(running, token=TOKEN) as peer:
                assert (await change(peer, width=192))["type"] == ("spec" if who == "token" else "error")


async def test_the_requesting_client_may_leave_meanwhile() -> None:
    with serving_factory() as (factory, running):
        async with joined(running) as other:
            async with joined(running, token=TOKEN) as sender:
                await sender.round(GREY)
                factory.proceed.clear()
                await sender.send("spec", spec={"width": 192})
                assert await asyncio.to_thread(factory.building.wait, 10)
                sender.socket.transport.abort()  # type: ignore[attr-defined]
            factory.proceed.set()
            assert (await other.next_text("spec"))["spec"]["width"] == 192
            assert size(await other.round(GREY)) == (192, SIZE)
            async with joined(running, resume=sender.welcome["resume"]) as again:
                assert again.welcome["spec"]["width"] == 192
                assert size(await again.round(GREY)) == (192, SIZE)


async def test_a_server_that_stops_in_the_middle_of_a_change_stops() -> None:
    with serving_factory() as (factory, running):
        async with connected(running) as peer:
            await peer.send("hello", protocol=1)
            await peer.next_text("welcome")
            factory.proceed.clear()
            await peer.send("spec", spec={"width": 192})
            assert await asyncio.to_thread(factory.building.wait, 10)
            stopping = asyncio.create_task(asyncio.to_thread(running.stop))
            assert (await peer.closed())[0] == 1012
            factory.proceed.set()
            await stopping
    assert all(made.closed for made in factory.made)
