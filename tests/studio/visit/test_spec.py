"""Spec changes while clients stream: what continues, what is made anew, what is lowered."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.client import StudioClient, StudioError, file_transfer
from studio.pictures import codec
from studio.wire import protocol
from studio.wire.protocol import Answer, PictureEncoding
from tests.studio.harness import GREY, SIZE, TOKEN, coloured, joined
from tests.studio.visit.spec_changes import change, serving_factory, size


async def test_every_client_gets_the_new_spec_and_goes_on_in_the_new_size() -> None:
    with serving_factory() as (factory, running):
        async with joined(running, token=TOKEN) as one, joined(running) as two:
            for peer in (one, two):
                await peer.round(GREY)
            reply = await change(one, 41, width=192, backend="openvino")
            notice = await two.next_text("spec")
            assert reply.pop("request") == 41 and reply == notice
            assert (reply["spec"]["width"], reply["spec"]["height"], reply["spec"]["backend"]) == (192, SIZE, "openvino")
            assert reply["settings"]["values"].keys() == reply["fields"].keys() and reply["adjusted"] == {}
            assert reply["model"] == one.welcome["model"]
            for peer in (one, two):
                answer = await peer.round(GREY)
                assert answer.verdict == "generated" and answer.frame_id == 2 and size(answer) == (192, SIZE)
            assert factory.made[0].closed and not factory.made[1].closed
            assert any(text["type"] == "building" and text["request"] == 41 for text in one.texts)
            assert not any(text["type"] == "building" for text in two.texts)
        async with joined(running, resume=two.welcome["resume"]) as again:
            assert again.welcome["resumed"] and again.welcome["spec"]["width"] == 192 and again.welcome["last_frame_id"] == 2
            assert (await again.round(GREY)).frame_id == 3


async def test_the_old_pipeline_streams_while_the_new_one_is_built() -> None:
    with serving_factory() as (factory, running):
        async with joined(running) as peer:
            factory.proceed.clear()
            await peer.send("spec", spec={"width": 192})
            assert (await peer.next_text("building"))["elapsed_s"] >= 0
            assert await asyncio.to_thread(factory.building.wait, 10)
            for _ in range(5):
                assert size(await peer.round(GREY)) == (SIZE, SIZE)
            assert running.hub.spec().width == SIZE
            factory.proceed.set()
            await peer.next_text("spec")
            assert size(await peer.round(GREY)) == (192, SIZE)


async def test_pictures_made_before_come_before_and_what_was_warming_is_given_up() -> None:
    with serving_factory() as (_, running):
        async with joined(running, settings={"steps": 3}) as peer:
            answers = [await peer.round(GREY) for _ in range(4)]
            assert [answer.verdict for answer in answers] == ["warming", "warming", "generated", "generated"]
            await peer.send("spec", spec={"height": 192})
            order: list[Any] = []
            while not order or order[-1] != "spec":
                message = await peer.receive()
                order.append(message if isinstance(message, Answer) else message["type"])
            lost = [item for item in order if isinstance(item, Answer)]
            assert [(a.frame_id, a.verdict, a.reason, a.settled) for a in lost] == [
                (3, "dropped", "spec", 4),
                (4, "dropped", "spec", 4),
            ]
            after = [await peer.round(GREY) for _ in range(3)]
            assert [(a.frame_id, a.verdict) for a in after] == [(5, "warming"), (6, "warming"), (5, "generated")]
            telemetry = await peer.next_text("telemetry")
            assert telemetry["totals"]["received"] == 7 == sum(telemetry["totals"][name] for name in protocol.VERDICTS)


async def test_frames_on_their_way_are_fitted_to_the_new_size() -> None:
    with serving_factory() as (factory, running):
        async with joined(running) as peer:
            await peer.round(GREY)
            old = factory.made[0]
            old.hold.clear()
            old.entered.clear()
            await peer.send_frame(GREY)
            assert await asyncio.to_thread(old.entered.wait, 10)
            await peer.send_frame(coloured(9, 9, 9))  # unpacked in the old size; waits for the model
            while not running.hub.fleet.owners[0]._waiting:
                await asyncio.sleep(0.01)
            await peer.send("spec", spec={"width": 256, "height": 192})
            while running.hub.fleet.owners[0]._swap is None:
                await asyncio.sleep(0.01)
            old.hold.set()
            first = await peer.next_answer()
            assert (first.frame_id, size(first)) == (2, (SIZE, SIZE))
            second = await peer.next_answer()
            assert (second.frame_id, second.verdict, size(second)) == (3, "generated", (256, 192))


async def test_settings_that_the_new_pipeline_cannot_do_are_lowered_and_named() -> None:
    with serving_factory() as (factory, running):
        async with joined(running, settings={"steps": 4, "prompt": "red"}) as peer:
            factory.max_steps = 2
            reply = await change(peer, width=192)
            assert reply["settings"]["values"]["steps"] == 2 and reply["settings"]["values"]["prompt"] == "red"
            assert "1 to 2" in reply["adjusted"]["steps"] and list(reply["adjusted"]) == ["steps"]
            assert [answer.verdict for answer in [await peer.round(GREY) for _ in range(2)]] == ["warming", "generated"]
            await peer.send("settings", patch={"steps": 3})
            assert (await peer.next_text("error", "settings"))["field"] == "steps"
            assert factory.made[1].rehearsed[0].steps == 2, "rehearsed with what the session will use"


async def test_nothing_can_be_set_that_the_coming_pipeline_cannot_do() -> None:
    with serving_factory() as (factory, running):
        async with joined(running) as peer:
            factory.max_steps = 2
            old = factory.made[0]
            old.hold.clear()
            old.entered.clear()
            await peer.send_frame(GREY)
            assert await asyncio.to_thread(old.entered.wait, 10)
            await peer.send("spec", spec={"width": 192})
            while running.hub.fleet.owners[0]._swap is None:
                await asyncio.sleep(0.01)
            await peer.send("settings", patch={"steps": 3})
            assert (await peer.next_text("error", "settings"))["field"] == "steps"
            old.hold.set()
            await peer.next_text("spec")
            assert (await peer.round(GREY)).verdict == "generated"


async def test_a_mask_outlives_the_change() -> None:
    with serving_factory() as (factory, running):
        async with joined(running) as peer:
            mask = np.arange(64, dtype=np.uint8).reshape(8, 8)
            await peer.socket.send(protocol.pack_mask(1, codec.encode_mask(mask)))
            await peer.next_text("mask")
            await peer.round(GREY)
            await change(peer, width=192)
            await peer.round(GREY)
            assert [np.array_equal(made.opened[-1].masks[-1], mask) for made in factory.made] == [True, True]


async def test_a_still_picture_under_the_gate_is_made_anew() -> None:
    with serving_factory() as (_, running):
        async with joined(running, settings={"gate.enabled": True, "gate.max_skip": 300, "probe.enabled": True}) as peer:
            assert [(await peer.round(GREY)).verdict for _ in range(3)] == ["generated", "skipped", "skipped"]
            await change(peer, width=192)
            assert [(await peer.round(GREY)).verdict for _ in range(2)] == ["generated", "skipped"]


async def test_a_prompt_patch_during_the_build_is_not_lost() -> None:
    with serving_factory() as (factory, running):
        async with joined(running) as peer:
            factory.proceed.clear()
            await peer.send("spec", spec={"width": 192})
            assert await asyncio.to_thread(factory.building.wait, 10)
            await peer.send("settings", patch={"prompt": "green"})
            await peer.next_text("settings")
            factory.proceed.set()
            reply = await peer.next_text("spec")
            assert reply["settings"]["values"]["prompt"] == "green" and reply["settings"]["version"] == 1


async def test_the_python_client_changes_the_spec(tmp_path: Path) -> None:
    with serving_factory() as (_, running):
        async with StudioClient(f"http://{running.host}", token=TOKEN, picture=PictureEncoding("png")) as client:
            assert (await client.change(width=192, height=256))["width"] == 192 and client.size == (192, 256)
            await client.frame(np.zeros((256, 192, 3), np.uint8))
            shown = await client.shown()
            assert shown.pixels is not None and shown.pixels.shape == (256, 192, 3)
            with pytest.raises(StudioError, match="multiple of 64") as caught:
                await client.change(width=100)
            assert caught.value.code == "bad_spec"
        (tmp_path / "in.png").write_bytes(GREY)
        options = ["--token", TOKEN, "--format", "png", "--spec", "width=192", "--spec", "backend=openvino"]
        command = [f"http://{running.host}", str(tmp_path / "in.png"), str(tmp_path / "out.png"), *options]
        result = await file_transfer.transfer(file_transfer.parser().parse_args(command))
        assert (result["size"], result["backend"]) == (f"192x{SIZE}", "openvino"), "the client before has left"
        with pytest.raises(SystemExit):
            file_transfer.parser().parse_args([*command, "--spec", "width"])
