"""The spec changed while clients stream: backend, size, model; and every way in which that can go wrong."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from pipelines import ModelError, Settings, SettingsError, StreamSpec, load
from studio.client import StudioClient, StudioError, file_transfer
from studio.model.change import ChangeRule
from studio.pictures import codec
from studio.wire import protocol
from studio.wire.limits import Limits
from studio.wire.protocol import Answer, PictureEncoding
from tests.studio.fake import FakePipeline
from tests.studio.harness import SIZE, TOKEN, Peer, Running, coloured, connected, joined, serving

GREY = coloured(100, 100, 100)


class Shop:
    """Makes pipelines, and can be told to fail, to wait, or to make limited ones."""

    def __init__(self) -> None:
        self.made: list[FakePipeline] = []
        self.error: Exception | None = None
        self.max_steps = 8
        self.go = threading.Event()
        self.go.set()
        self.asked = threading.Event()

    def __call__(self, spec: StreamSpec) -> FakePipeline:
        if self.made:
            self.asked.set()
            assert self.go.wait(20), "a test forgot to let the build go"
            if self.error is not None:
                raise self.error
        self.made.append(FakePipeline(replace(spec, max_steps=min(spec.max_steps, self.max_steps))))
        return self.made[-1]


@contextmanager
def shop_serving(limits: Limits | None = None, **options: Any) -> Iterator[tuple[Shop, Running]]:
    shop = Shop()
    with serving(limits or Limits(errors_at_once=50), factory=shop, **options) as running:
        try:
            yield shop, running
        finally:
            shop.go.set()
            shop.made[-1].hold.set()


def size(answer: Answer) -> tuple[int, int]:
    height, width = codec.read(memoryview(answer.picture), answer.format, Limits()).shape[:2]
    return width, height


async def change(peer: Peer, request: int = 7, **changes: object) -> dict[str, Any]:
    await peer.say("spec", spec=changes, request=request)
    return await peer.next_text("spec", "error")


async def test_everybody_is_told_and_goes_on_in_the_new_size() -> None:
    with shop_serving() as (shop, running):
        async with joined(running, token=TOKEN) as one, joined(running) as two:
            for peer in (one, two):
                await peer.round(GREY)
            told = await change(one, 41, width=192, backend="openvino")
            heard = await two.next_text("spec")
            assert told.pop("request") == 41 and told == heard
            assert (told["spec"]["width"], told["spec"]["height"], told["spec"]["backend"]) == (192, SIZE, "openvino")
            assert told["settings"]["values"].keys() == told["fields"].keys() and told["adjusted"] == {}
            assert told["model"] == one.welcome["model"]
            for peer in (one, two):
                answer = await peer.round(GREY)
                assert answer.verdict == "generated" and answer.frame_id == 2 and size(answer) == (192, SIZE)
            assert shop.made[0].closed and not shop.made[1].closed
            assert any(text["type"] == "building" and text["request"] == 41 for text in one.texts)
            assert not any(text["type"] == "building" for text in two.texts)
        async with joined(running, resume=two.welcome["resume"]) as again:
            assert again.welcome["resumed"] and again.welcome["spec"]["width"] == 192 and again.welcome["last_frame_id"] == 2
            assert (await again.round(GREY)).frame_id == 3


async def test_the_old_pipeline_streams_while_the_new_one_is_built() -> None:
    with shop_serving() as (shop, running):
        async with joined(running) as peer:
            shop.go.clear()
            await peer.say("spec", spec={"width": 192})
            assert (await peer.next_text("building"))["elapsed_s"] >= 0
            assert await asyncio.to_thread(shop.asked.wait, 10)
            for _ in range(5):
                assert size(await peer.round(GREY)) == (SIZE, SIZE)
            assert running.hub.spec().width == SIZE
            shop.go.set()
            await peer.next_text("spec")
            assert size(await peer.round(GREY)) == (192, SIZE)


async def test_pictures_made_before_come_before_and_what_was_warming_is_given_up() -> None:
    with shop_serving() as (_, running):
        async with joined(running, settings={"steps": 3}) as peer:
            answers = [await peer.round(GREY) for _ in range(4)]
            assert [answer.verdict for answer in answers] == ["warming", "warming", "generated", "generated"]
            await peer.say("spec", spec={"height": 192})
            order: list[Any] = []
            while not order or order[-1] != "spec":
                message = await peer.hear()
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
    with shop_serving() as (shop, running):
        async with joined(running) as peer:
            await peer.round(GREY)
            old = shop.made[0]
            old.hold.clear()
            old.entered.clear()
            await peer.send_frame(GREY)
            assert await asyncio.to_thread(old.entered.wait, 10)
            await peer.send_frame(coloured(9, 9, 9))  # unpacked in the old size; waits for the model
            while not running.hub.fleet.owners[0]._waiting:
                await asyncio.sleep(0.01)
            await peer.say("spec", spec={"width": 256, "height": 192})
            while running.hub.fleet.owners[0]._swap is None:
                await asyncio.sleep(0.01)
            old.hold.set()
            first = await peer.hear_answer()
            assert (first.frame_id, size(first)) == (2, (SIZE, SIZE))
            second = await peer.hear_answer()
            assert (second.frame_id, second.verdict, size(second)) == (3, "generated", (256, 192))


async def test_settings_that_the_new_pipeline_cannot_do_are_lowered_and_named() -> None:
    with shop_serving() as (shop, running):
        async with joined(running, settings={"steps": 4, "prompt": "red"}) as peer:
            shop.max_steps = 2
            told = await change(peer, width=192)
            assert told["settings"]["values"]["steps"] == 2 and told["settings"]["values"]["prompt"] == "red"
            assert "1 to 2" in told["adjusted"]["steps"] and list(told["adjusted"]) == ["steps"]
            assert [answer.verdict for answer in [await peer.round(GREY) for _ in range(2)]] == ["warming", "generated"]
            await peer.say("settings", patch={"steps": 3})
            assert (await peer.next_text("error", "settings"))["field"] == "steps"
            assert shop.made[1].rehearsed[0].steps == 2, "rehearsed with what the session will use"


async def test_nothing_can_be_set_that_the_coming_pipeline_cannot_do() -> None:
    with shop_serving() as (shop, running):
        async with joined(running) as peer:
            shop.max_steps = 2
            old = shop.made[0]
            old.hold.clear()
            old.entered.clear()
            await peer.send_frame(GREY)
            assert await asyncio.to_thread(old.entered.wait, 10)
            await peer.say("spec", spec={"width": 192})
            while running.hub.fleet.owners[0]._swap is None:
                await asyncio.sleep(0.01)
            await peer.say("settings", patch={"steps": 3})
            assert (await peer.next_text("error", "settings"))["field"] == "steps"
            old.hold.set()
            await peer.next_text("spec")
            assert (await peer.round(GREY)).verdict == "generated"


async def test_a_mask_outlives_the_change() -> None:
    with shop_serving() as (shop, running):
        async with joined(running) as peer:
            mask = np.arange(64, dtype=np.uint8).reshape(8, 8)
            await peer.socket.send(protocol.pack_mask(1, codec.encode_mask(mask)))
            await peer.next_text("mask")
            await peer.round(GREY)
            await change(peer, width=192)
            await peer.round(GREY)
            assert [np.array_equal(made.opened[-1].masks[-1], mask) for made in shop.made] == [True, True]


async def test_a_still_picture_under_the_gate_is_made_anew() -> None:
    with shop_serving() as (_, running):
        async with joined(running, settings={"gate.enabled": True, "gate.max_skip": 300, "probe.enabled": True}) as peer:
            assert [(await peer.round(GREY)).verdict for _ in range(3)] == ["generated", "skipped", "skipped"]
            await change(peer, width=192)
            assert [(await peer.round(GREY)).verdict for _ in range(2)] == ["generated", "skipped"]


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
    with shop_serving() as (shop, running):
        async with joined(running, settings={"prompt": "red"}) as peer:
            await peer.round(GREY)
            shop.error = error
            refusal = await change(peer, 9, width=192)
            assert (refusal["type"], refusal["code"], refusal["field"], refusal["request"]) == ("error", "bad_spec", field, 9)
            assert word in refusal["message"] and not refusal["fatal"]
            answer = await peer.round(GREY)
            assert size(answer) == (SIZE, SIZE) and shop.made[0].opened[-1].steps == 2, "the state was kept"
            shop.error = None
            assert (await change(peer, width=192))["type"] == "spec", "a failure does not block the next change"


async def test_a_pipeline_that_fails_its_rehearsal_is_never_used() -> None:
    with shop_serving() as (shop, running):
        async with joined(running) as peer:
            made = FakePipeline(StreamSpec(width=192, height=SIZE))

            def broken(settings: Settings, sessions: int = 1) -> None:
                raise RuntimeError("out of memory in the first step")

            made.rehearse = broken  # type: ignore[method-assign]
            running.hub._factory = lambda spec: made
            assert (await change(peer, width=192))["code"] == "bad_spec"
            assert made.closed and not shop.made[0].closed
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
    with shop_serving() as (shop, running):
        async with joined(running) as peer:
            await peer.say("spec", spec=spec, request=3)
            error = await peer.next_text("error", "spec")
            assert error["code"] in ("bad_spec", "bad_message") and (error["field"], error["request"]) == (field, 3)
            assert len(shop.made) == 1 and (await peer.round(GREY)).verdict == "generated"


async def test_one_change_at_a_time() -> None:
    with shop_serving() as (shop, running):
        async with joined(running, token=TOKEN) as one, joined(running, token=TOKEN) as two:
            shop.go.clear()
            await one.say("spec", spec={"width": 192}, request=1)
            assert await asyncio.to_thread(shop.asked.wait, 10)
            busy = await change(two, 2, width=256)
            assert (busy["code"], busy["request"], busy["fatal"]) == ("busy", 2, False) and "under way" in busy["message"]
            assert (await change(one, 3, width=256))["code"] == "busy"
            shop.go.set()
            for peer in (one, two):
                assert (await peer.next_text("spec"))["spec"]["width"] == 192
            assert (await change(two, 4, width=256))["spec"]["width"] == 256


async def test_who_may_not_is_told_why() -> None:
    with shop_serving() as (_, running):
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
        with shop_serving(changes=ChangeRule(who)) as (_, running):
            async with joined(running) as peer:
                error = await change(peer, width=192)
                assert error["code"] == "forbidden" and word in error["message"] and word in peer.welcome["change"]["refused"]
            async with joined(running, token=TOKEN) as peer:
                assert (await change(peer, width=192))["type"] == ("spec" if who == "token" else "error")


async def test_who_asked_may_go_away_meanwhile() -> None:
    with shop_serving() as (shop, running):
        async with joined(running) as other:
            async with joined(running, token=TOKEN) as asker:
                await asker.round(GREY)
                shop.go.clear()
                await asker.say("spec", spec={"width": 192})
                assert await asyncio.to_thread(shop.asked.wait, 10)
                asker.socket.transport.abort()  # type: ignore[attr-defined]
            shop.go.set()
            assert (await other.next_text("spec"))["spec"]["width"] == 192
            assert size(await other.round(GREY)) == (192, SIZE)
            async with joined(running, resume=asker.welcome["resume"]) as again:
                assert again.welcome["spec"]["width"] == 192
                assert size(await again.round(GREY)) == (192, SIZE)


async def test_a_server_that_stops_in_the_middle_of_a_change_stops() -> None:
    with shop_serving() as (shop, running):
        async with connected(running) as peer:
            await peer.say("hello", protocol=1)
            await peer.next_text("welcome")
            shop.go.clear()
            await peer.say("spec", spec={"width": 192})
            assert await asyncio.to_thread(shop.asked.wait, 10)
            stopping = asyncio.create_task(asyncio.to_thread(running.stop))
            assert (await peer.closed())[0] == 1012
            shop.go.set()
            await stopping
    assert all(made.closed for made in shop.made)


async def test_a_prompt_patch_during_the_build_is_not_lost() -> None:
    with shop_serving() as (shop, running):
        async with joined(running) as peer:
            shop.go.clear()
            await peer.say("spec", spec={"width": 192})
            assert await asyncio.to_thread(shop.asked.wait, 10)
            await peer.say("settings", patch={"prompt": "green"})
            await peer.next_text("settings")
            shop.go.set()
            told = await peer.next_text("spec")
            assert told["settings"]["values"]["prompt"] == "green" and told["settings"]["version"] == 1


async def test_the_python_client_changes_the_spec(tmp_path: Path) -> None:
    with shop_serving() as (_, running):
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


@pytest.mark.timeout(600)
async def test_real_backends_and_sizes_while_a_client_streams(mini_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """eager → openvino → compile → 192 → 128 on a miniature: nothing is lost, and nothing of the old pipelines remains.

    torch.compile captures its graphs but generates no code, which takes it minutes beside a stream; test_backends.py has that.
    """
    original = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module, **options: original(module, **{**options, "backend": "eager"}))
    made: list[weakref.ref[Any]] = []

    def factory(spec: StreamSpec) -> Any:
        pipeline = load(replace(spec, model=str(mini_model)))
        made.append(weakref.ref(pipeline))
        made.append(weakref.ref(pipeline.graphs.parts))
        return pipeline

    plan: list[tuple[dict[str, object], int]] = [
        ({"backend": "openvino"}, 1),
        ({"backend": "compile"}, 2),
        ({"backend": "eager", "width": 192, "height": 192}, 2),
        ({"width": 128, "height": 128}, 2),
    ]
    noise = codec.encode(np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8), PictureEncoding("png"))
    patient = replace(Limits(), ping_s=60.0)  # this peer answers no pings, and waits for graphs
    with serving(patient, factory=factory, backend="eager", dtype="float32") as running:
        async with joined(running, settings={"steps": 2}) as peer:
            log: list[Any] = []
            enough = asyncio.Event()

            async def listen() -> None:
                while True:
                    log.append(await peer.hear())

            async def stream() -> None:
                settled = 0
                while not enough.is_set():
                    settled = max([settled, *(answer.settled for answer in peer.answers[-4:])])
                    if peer.next_id - 1 - settled < 2:
                        await peer.send_frame(noise)
                    await asyncio.sleep(0.02)

            tasks = [asyncio.create_task(listen()), asyncio.create_task(stream())]
            for spec, steps in plan:
                told = sum(isinstance(item, dict) and item["type"] == "spec" for item in log)
                await peer.say("spec", spec=spec)
                while sum(isinstance(item, dict) and item["type"] == "spec" for item in log) == told:
                    assert not any(task.done() for task in tasks) and not any(text["type"] == "error" for text in peer.texts)
                    await asyncio.sleep(0.02)
                reached = len(peer.answers)
                while sum(answer.verdict == "generated" for answer in peer.answers[reached:]) < 5:
                    assert not any(task.done() for task in tasks), tasks
                    await asyncio.sleep(0.01)
                await peer.say("settings", patch={"steps": steps})
            enough.set()
            await tasks[1]
            tasks[0].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            log.append(await peer.round(noise))
            last = peer.next_id - 1
            session = running.hub._streams[peer.welcome["session"]].session
            assert session.totals["received"] == last == sum(session.totals[name] for name in protocol.VERDICTS), (
                "an id met no fate"
            )
        shape, seen, shown = (SIZE, SIZE), [], []
        for item in log:
            if isinstance(item, dict) and item["type"] == "spec":
                shape = (item["spec"]["width"], item["spec"]["height"])
                seen.append((item["spec"]["backend"], shape))
            elif isinstance(item, Answer) and item.format != "none":
                assert size(item) == shape
                shown.append(item.frame_id)
        assert seen == [("openvino", (128, 128)), ("compile", (128, 128)), ("eager", (192, 192)), ("eager", (128, 128))]
        assert shown == sorted(set(shown)) and not any(answer.verdict == "failed" for answer in peer.answers)
        assert [answer.settled for answer in peer.answers] == sorted(answer.settled for answer in peer.answers)
        async with joined(running, resume=peer.welcome["resume"]) as again:
            assert again.welcome["resumed"] and (await again.round(noise)).settled == last + 1
        for _ in range(600):
            if not any(ref() for ref in made[:-2]):
                break
            gc.collect()
            await asyncio.sleep(0.05)
        assert [ref() is not None for ref in made] == [False] * 8 + [True] * 2, "an old pipeline is still in memory"
