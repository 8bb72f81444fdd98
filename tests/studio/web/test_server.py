"""The stream over real sockets: frames, settings, sessions, failures of the model."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipelines import ModelError, Settings
from studio.wire import protocol
from studio.wire.limits import Limits
from tests.studio.harness import Running, colour, coloured, connected, joined, serving

RED, GREEN, BLUE, GREY = coloured(200, 0, 0), coloured(0, 200, 0), coloured(0, 0, 200), coloured(100, 100, 100)


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with serving(Limits(max_sessions=8)) as running:
        yield running


async def test_a_frame_comes_back_transformed(shared: Running) -> None:
    async with joined(shared, settings={"prompt": "red"}) as peer:
        answer = await peer.round(GREY)
        assert (answer.verdict, answer.frame_id, answer.settled) == ("generated", 1, 1)
        assert colour(answer) == (177, 50, 50)
        assert answer.timings.total > 0 and answer.timings.unpack > 0
        assert shared.pipeline.threads == {"rill-model"}


async def test_the_welcome_says_what_a_client_needs(shared: Running) -> None:
    async with joined(shared) as peer:
        welcome = peer.welcome
        assert welcome["spec"]["backend"] == "eager" and welcome["limits"]["credit"] == 2
        assert welcome["settings"]["values"].keys() == welcome["fields"].keys()
        assert welcome["model"]["prompts"] == ["red", "green", "blue"] and not welcome["resumed"]
        assert welcome["model"]["modifiers"] == [{"prompt": "at night", "group": "light"}] and welcome["model"]["scenes"] == [
            "sea"
        ]
        assert len(welcome["resume"]) >= 32 and welcome["last_frame_id"] == 0


async def test_every_session_starts_with_the_servers_settings_as_far_as_the_model_takes_them() -> None:
    opening = Settings().patched({"strength": 0.4, "prompt": "green"})
    with serving(Limits(), opening=opening) as running:
        async with joined(running, settings={"prompt": "red"}) as peer:
            assert peer.welcome["settings"]["values"] == opening.flat() | {"prompt": "red"}
            assert peer.welcome["fields"]["strength"]["default"] == 0.4


@pytest.mark.parametrize("form", ["jpeg", "png"])
async def test_answers_come_in_the_wished_format(shared: Running, form: str) -> None:
    async with joined(shared, picture={"format": form}) as peer:
        answer = await peer.round(coloured(10, 200, 60, form="jpeg"), "jpeg")
        assert answer.format == form
        assert all(abs(a - b) <= 3 for a, b in zip(colour(answer), (10, 200, 60), strict=True))


async def test_prompt_only_draws_without_a_picture(shared: Running) -> None:
    async with joined(shared, settings={"prompt": "blue"}) as peer:
        assert colour(await peer.round()) == (64, 64, 191)


async def test_larger_pictures_are_fitted(shared: Running) -> None:
    async with joined(shared) as peer:
        assert colour(await peer.round(coloured(1, 2, 3, size=300))) == (1, 2, 3)


async def test_a_frame_in_fragments(shared: Running) -> None:
    async with joined(shared) as peer:
        message = protocol.pack_frame(1, 0.0, "png", GREY)
        await peer.socket.send([message[:7], message[7:40], message[40:]])
        assert colour(await peer.hear_answer()) == (100, 100, 100)


async def test_settings_are_live_versioned_and_acknowledged(shared: Running) -> None:
    async with joined(shared) as peer:
        assert colour(await peer.round(GREY)) == (100, 100, 100)
        await peer.say("settings", patch={"prompt": "green", "strength": 0.25}, request=41)
        ack = await peer.next_text("settings")
        assert ack["request"] == 41 and ack["version"] == 1 and ack["values"]["prompt"] == "green"
        answer = await peer.round(GREY)
        assert colour(answer) == (50, 177, 50) and answer.settings_version == 1


@pytest.mark.parametrize(
    ("patch", "field"),
    [({"promt": "x"}, "promt"), ({"strength": 2}, "strength"), ({"steps": 8}, "steps"), ({"seed": "5"}, "seed")],
)
async def test_a_wrong_setting_changes_nothing_and_is_named(shared: Running, patch: dict[str, object], field: str) -> None:
    async with joined(shared, settings={"prompt": "red"}) as peer:
        await peer.say("settings", patch={"prompt": "blue", **patch}, request=3)
        error = await peer.next_text("error", "settings")
        assert (error["code"], error["field"], error["request"], error["fatal"]) == ("bad_settings", field, 3, False)
        answer = await peer.round(GREY)
        assert answer.settings_version == 1 and colour(answer) == (177, 50, 50)


async def test_two_sessions_never_see_each_others_pictures(shared: Running) -> None:
    async def stream(prompt: str, picture: bytes, expected: tuple[int, int, int]) -> None:
        async with joined(shared, settings={"prompt": prompt}) as peer:
            await peer.send_frame(picture)
            for _ in range(60):
                await peer.send_frame(picture)
                answer = await peer.hear_answer()
                if answer.verdict == "generated":
                    assert colour(answer) == expected
            assert sum(answer.verdict == "generated" for answer in peer.answers) > 20

    shared.pipeline.batches.clear()
    await asyncio.gather(
        stream("red", GREEN, (127, 100, 0)),
        stream("plain", BLUE, (0, 0, 200)),
        stream("blue", RED, (100, 0, 127)),
    )
    assert max(shared.pipeline.batches) > 1, "the sessions never shared a step"


async def test_a_stream_batch_answers_warming_first_and_later_the_older_frame(shared: Running) -> None:
    async with joined(shared, settings={"steps": 3}) as peer:
        answers = [await peer.round(coloured(10 * n, 0, 0)) for n in range(1, 6)]
        assert [answer.verdict for answer in answers] == ["warming", "warming", "generated", "generated", "generated"]
        assert [answer.frame_id for answer in answers] == [1, 2, 1, 2, 3]
        assert [colour(answer)[0] for answer in answers[2:]] == [10, 20, 30]
        assert answers[3].captured_at < answers[4].captured_at


async def test_the_gate_skips_a_still_picture_and_flushes_the_stream_batch(shared: Running) -> None:
    options = {"gate.enabled": True, "gate.max_skip": 300, "steps": 2}
    async with joined(shared, settings=options) as peer:
        answers = [await peer.round(GREY) for _ in range(5)]
        assert [answer.verdict for answer in answers] == ["warming", "generated", "skipped", "skipped", "skipped"]
        assert [answer.settled for answer in answers] == [1, 2, 3, 4, 5]
        assert (await peer.round(RED)).verdict == "warming"


async def test_a_picture_that_is_still_being_made_is_not_lost_to_a_skip() -> None:
    with serving(step_s=0.03) as running:
        async with joined(running, settings={"gate.enabled": True, "gate.max_skip": 300}) as peer:
            await peer.round(GREY)
            for picture, level in ((RED, 200), (GREEN, 0), (RED, 200)):
                first = await peer.send_frame(picture)
                await peer.send_frame(picture)  # unpacked and skipped while the first is in the model
                one, two = await peer.hear_answer(), await peer.hear_answer()
                assert (one.verdict, one.frame_id, two.verdict, two.frame_id) == ("generated", first, "skipped", first + 1)
                assert colour(one)[0] == level


async def test_credit_is_enforced(shared: Running) -> None:
    pipeline = shared.pipeline
    async with joined(shared) as peer:
        await peer.round(GREY)
        pipeline.hold.clear()
        pipeline.entered.clear()
        await peer.send_frame(coloured(2, 0, 0))
        await asyncio.to_thread(pipeline.entered.wait, 10)
        for value in range(3, 20):
            await peer.send_frame(coloured(value, 0, 0))
        drop = await peer.hear_answer()
        assert (drop.verdict, drop.reason, drop.settled) == ("dropped", "credit", 1)
        session = shared.hub._streams[peer.welcome["session"]].session
        while session.totals["received"] < 19:
            await asyncio.sleep(0.01)
        assert len(session.in_flight) == 2
        pipeline.hold.set()
        while (answer := await peer.hear_answer()).settled < 19:
            pass
        shown = [colour(answer)[0] for answer in peer.answers if answer.verdict == "generated"]
        assert shown[0] == 100 and 1 <= len(shown) - 1 <= 2, shown  # the two in credit, nothing beyond
        assert peer.answers[-1] is answer and [a.settled for a in peer.answers] == sorted(a.settled for a in peer.answers)
        telemetry = await peer.next_text("telemetry")
        assert telemetry["drops"]["credit"] == 16 and telemetry["totals"]["received"] == 19


async def test_stale_frames_are_dropped_until_the_path_is_known_to_be_slow(shared: Running) -> None:
    async with joined(shared) as peer:
        await peer.round(GREY)
        now = asyncio.get_running_loop().time()
        for _ in range(2):
            await peer.send_frame(GREY, captured_at=now - 300)
            answer = await peer.hear_answer()
            assert (answer.verdict, answer.reason) == ("dropped", "stale")
        await peer.send_frame(GREY, captured_at=now - 300)
        assert (await peer.hear_answer()).verdict == "generated"


async def test_pause_drops_and_going_on_goes_on(shared: Running) -> None:
    async with joined(shared) as peer:
        await peer.say("pause", paused=True)
        assert (await peer.next_text("pause"))["paused"] is True
        assert (await peer.round(GREY)).reason == "paused"
        await peer.say("pause", paused=False)
        await peer.next_text("pause")
        assert (await peer.round(GREY)).verdict == "generated"


async def test_ping_and_telemetry(shared: Running) -> None:
    async with joined(shared) as peer:
        await peer.say("ping", t=123.25)
        assert (await peer.next_text("pong"))["t"] == 123.25
        await peer.round(GREY)
        telemetry = await peer.next_text("telemetry")
        assert telemetry["totals"]["generated"] == 1 and telemetry["stage_ms"]["total"] > 0
        assert telemetry["bytes_in_per_s"] > 0 and telemetry["sessions"] >= 1


async def test_telemetry_says_whether_the_spec_may_be_changed_as_others_come_and_go() -> None:
    with serving(Limits(telemetry_s=0.05)) as running:
        async with joined(running) as first:
            assert "refused" not in await first.next_text("telemetry")
            async with joined(running):
                while "refused" not in (report := await first.next_text("telemetry")):
                    assert report["sessions"] == 1
                assert "2 visitors" in report["refused"]
            while "refused" in (report := await first.next_text("telemetry")):
                assert report["sessions"] == 2


async def test_a_failing_model_hurts_one_session_only(shared: Running) -> None:
    async with joined(shared) as good, joined(shared, settings={"prompt": "boom"}) as bad:
        before = len(shared.pipeline.opened)
        for _ in range(5):
            await asyncio.gather(good.send_frame(GREY), bad.send_frame(GREY))
            assert (await good.hear_answer()).verdict == "generated"
            assert (await bad.hear_answer()).verdict == "failed"
        error = next(text for text in bad.texts if text["type"] == "error")
        assert error["code"] == "model_error" and error["frame"] == 1 and not error["fatal"]
        await bad.say("settings", patch={"prompt": "red"})
        assert colour(await bad.round(GREY)) == (177, 50, 50)
        fresh = shared.pipeline.opened[-1]
        assert len(shared.pipeline.opened) > before and fresh.steps == 1, "the failed session kept its state"
        assert not any(text["type"] == "error" for text in good.texts)


async def test_resume_keeps_settings_and_state_within_the_grace_period(shared: Running) -> None:
    async with joined(shared, settings={"prompt": "green"}) as peer:
        for _ in range(3):
            await peer.round(GREY)
        opened = len(shared.pipeline.opened)
    async with joined(shared, resume=peer.welcome["resume"]) as again:
        assert again.welcome["resumed"] and again.welcome["last_frame_id"] == 3
        assert again.welcome["session"] == peer.welcome["session"] and again.welcome["resume"] != peer.welcome["resume"]
        assert again.welcome["settings"]["values"]["prompt"] == "green"
        assert colour(await again.round(GREY)) == (50, 177, 50)
        assert len(shared.pipeline.opened) == opened, "the state was not kept"
    async with connected(shared) as third:
        await third.say("hello", protocol=1, resume=peer.welcome["resume"])
        assert await third.closed() == (4410, "resume_expired")


async def test_resume_takes_over_a_connection_that_still_stands(shared: Running) -> None:
    async with joined(shared) as old:
        await old.round(GREY)
        async with joined(shared, resume=old.welcome["resume"]) as new:
            assert await old.closed() == (4409, "taken_over")
            assert (await new.round(GREY)).settled == 2


async def test_no_resume_after_bye_or_after_the_grace_period() -> None:
    with serving(Limits(grace_s=0.2)) as running:
        async with joined(running) as peer:
            await peer.say("bye")
            assert (await peer.closed())[0] == 1000
        async with joined(running) as late:
            pass
        await asyncio.sleep(0.3)
        for token in (peer.welcome["resume"], late.welcome["resume"], "nonsense"):
            async with connected(running) as again:
                await again.say("hello", protocol=1, resume=token)
                assert await again.closed() == (4410, "resume_expired")
        await asyncio.sleep(1.2)
        assert len(running.hub.seats) == 0 and not running.hub.fleet.owners[0]._states


async def test_a_full_server_says_so_and_a_warm_seat_gives_way() -> None:
    with serving(Limits(max_sessions=1)) as running:
        async with joined(running) as first:
            async with connected(running) as second:
                await second.say("hello", protocol=1)
                assert await second.closed() == (4503, "full")
                assert second.texts[0]["code"] == "full" and "try again" in second.texts[0]["message"]
            assert (await first.round(GREY)).verdict == "generated"
        async with joined(running) as third:
            assert (await third.round(GREY)).verdict == "generated"
        async with connected(running) as again:
            await again.say("hello", protocol=1, resume=first.welcome["resume"])
            assert (await again.closed())[0] == 4410


async def test_a_slow_reader_loses_frames_and_hurts_nobody() -> None:
    # PNG of noise is large, so that the sockets' buffers fill soon; the slow peer sends on and on and never reads.
    import numpy as np

    from studio.pictures import codec
    from studio.wire.protocol import PictureEncoding

    noise = codec.encode(np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8), PictureEncoding("png"))
    limits = replace(Limits(), messages_per_s=1e6, bytes_per_s=1e9, credit=2)
    with serving(limits) as running:
        async with joined(running) as quick, joined(running) as slow:
            sent = 0
            session = running.hub._streams[slow.welcome["session"]].session
            slow.socket.transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(4000):
                await slow.send_frame(noise)
                sent += 1
                if sent % 10 == 0:
                    assert (await quick.round(GREY)).verdict == "generated"
                if session.drops["unsent"] > 5:
                    break
            assert session.drops["unsent"] > 5, (sent, session.totals, session.drops)
            times = [answer.timings.total for answer in quick.answers]
            assert sorted(times)[len(times) // 2] < 200
            slow.socket.transport.abort()  # type: ignore[attr-defined]


async def test_loading_is_told_and_then_welcomed() -> None:
    import threading

    go = threading.Event()
    with serving(factory=lambda spec: go.wait(20) and running.pipeline) as running:
        async with connected(running) as peer:
            await peer.say("hello", protocol=1)
            loading = await peer.next_text("loading", "welcome")
            assert loading["type"] == "loading" and loading["elapsed_s"] > 0
            assert await asyncio.to_thread(fetch, running, "/healthz") == (503, "loading")
            go.set()
            assert (await peer.next_text("welcome"))["protocol"] == 1
            assert await asyncio.to_thread(fetch, running, "/healthz") == (200, "ok")


async def test_a_model_that_cannot_be_loaded_is_explained() -> None:
    def broken(spec: object) -> object:
        raise ModelError("unet/config.json: no such file")

    with serving(factory=broken) as running:
        async with connected(running) as peer:
            await peer.say("hello", protocol=1)
            assert await peer.closed() == (4500, "model_failed")
            assert "unet/config.json" in peer.texts[-1]["message"]
        assert await asyncio.to_thread(fetch, running, "/healthz") == (500, "failed")


async def test_graphs_are_built_for_new_settings_beside_the_stream(shared: Running) -> None:
    async with joined(shared, settings={"steps": 2}) as peer:
        assert 2 in shared.pipeline.built, "welcome waits for the graphs of the first settings"
        await peer.say("settings", patch={"steps": 4})
        await peer.next_text("settings")
        await peer.round(GREY)
        for _ in range(100):
            if 4 in shared.pipeline.built:
                break
            await asyncio.sleep(0.01)
        assert 4 in shared.pipeline.built and not shared.pipeline.threads - {"rill-model"}


async def test_a_server_that_stops_says_goodbye() -> None:
    with serving(step_s=0.05) as running:
        async with joined(running) as peer:
            await peer.send_frame(GREY)
            stopping = asyncio.create_task(asyncio.to_thread(running.stop))
            assert (await peer.closed())[0] == 1012
            await stopping
    assert running.pipeline.closed


async def test_memory_does_not_grow_with_the_number_of_frames(shared: Running) -> None:
    import gc
    import tracemalloc

    async with joined(shared, settings={"steps": 2}) as peer:

        async def stream(count: int) -> int:
            for _ in range(count):
                await peer.round(GREY)
            peer.answers.clear()
            peer.texts.clear()
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            before = await stream(150)
            after = await stream(300)
        finally:
            tracemalloc.stop()
    # One 128x128 picture is 49 kB: two hundred of them kept would be 10 MB.
    assert after - before < 300_000


async def test_metrics_count_and_name_nobody(shared: Running) -> None:
    async with joined(shared, settings={"prompt": "a very private prompt"}) as peer:
        await peer.round(GREY)
        await peer.next_text("telemetry")
        text = shared.hub.metrics.text().decode()
        assert 'rill_frames_total{verdict="generated"}' in text and "rill_stage_seconds_bucket" in text
        assert "private" not in text and peer.welcome["session"] not in text


def get(running: Running, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{running.host}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def fetch(running: Running, path: str) -> tuple[int, str]:
    status, body = get(running, path)
    return status, json.loads(body)["status"]
