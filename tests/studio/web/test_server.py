"""The stream over real sockets: frames, settings, sessions, failures of the model."""

from __future__ import annotations

import asyncio

import pytest

from pipelines import Settings
from studio.wire import protocol
from studio.wire.limits import Limits
from tests.studio.harness import GREEN, GREY, RED, Running, colour, coloured, joined, serving


async def test_a_frame_comes_back_transformed(shared: Running) -> None:
    async with joined(shared, settings={"prompt": "red"}) as peer:
        answer = await peer.round(GREY)
        assert (answer.verdict, answer.frame_id, answer.settled) == ("generated", 1, 1)
        assert colour(answer) == (177, 50, 50)
        assert answer.timings.total > 0 and answer.timings.unpack > 0
        assert shared.pipeline.threads == {"rill-model"}


async def test_the_welcome_holds_what_a_client_needs(shared: Running) -> None:
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
        assert colour(await peer.next_answer()) == (100, 100, 100)


async def test_settings_are_live_versioned_and_acknowledged(shared: Running) -> None:
    async with joined(shared) as peer:
        assert colour(await peer.round(GREY)) == (100, 100, 100)
        await peer.send("settings", patch={"prompt": "green", "strength": 0.25}, request=41)
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
        await peer.send("settings", patch={"prompt": "blue", **patch}, request=3)
        error = await peer.next_text("error", "settings")
        assert (error["code"], error["field"], error["request"], error["fatal"]) == ("bad_settings", field, 3, False)
        answer = await peer.round(GREY)
        assert answer.settings_version == 1 and colour(answer) == (177, 50, 50)


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
                one, two = await peer.next_answer(), await peer.next_answer()
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
        drop = await peer.next_answer()
        assert (drop.verdict, drop.reason, drop.settled) == ("dropped", "credit", 1)
        session = shared.hub._streams[peer.welcome["session"]].session
        while session.totals["received"] < 19:
            await asyncio.sleep(0.01)
        assert len(session.in_flight) == 2
        pipeline.hold.set()
        while (answer := await peer.next_answer()).settled < 19:
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
            answer = await peer.next_answer()
            assert (answer.verdict, answer.reason) == ("dropped", "stale")
        await peer.send_frame(GREY, captured_at=now - 300)
        assert (await peer.next_answer()).verdict == "generated"


async def test_pause_drops_and_going_on_goes_on(shared: Running) -> None:
    async with joined(shared) as peer:
        await peer.send("pause", paused=True)
        assert (await peer.next_text("pause"))["paused"] is True
        assert (await peer.round(GREY)).reason == "paused"
        await peer.send("pause", paused=False)
        await peer.next_text("pause")
        assert (await peer.round(GREY)).verdict == "generated"


async def test_ping_and_telemetry(shared: Running) -> None:
    async with joined(shared) as peer:
        await peer.send("ping", t=123.25)
        assert (await peer.next_text("pong"))["t"] == 123.25
        await peer.round(GREY)
        telemetry = await peer.next_text("telemetry")
        assert telemetry["totals"]["generated"] == 1 and telemetry["stage_ms"]["total"] > 0
        assert telemetry["bytes_in_per_s"] > 0 and telemetry["sessions"] >= 1


async def test_graphs_are_built_for_new_settings_beside_the_stream(shared: Running) -> None:
    async with joined(shared, settings={"steps": 2}) as peer:
        assert 2 in shared.pipeline.built, "welcome waits for the graphs of the first settings"
        await peer.send("settings", patch={"steps": 4})
        await peer.next_text("settings")
        await peer.round(GREY)
        for _ in range(100):
            if 4 in shared.pipeline.built:
                break
            await asyncio.sleep(0.01)
        assert 4 in shared.pipeline.built and not shared.pipeline.threads - {"rill-model"}
