"""Sessions side by side on one server: apart from each other, resumed, bounded in memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from studio.wire.limits import Limits
from tests.studio.harness import BLUE, GREEN, GREY, RED, Running, colour, connected, joined, serving


async def test_two_sessions_never_see_each_others_pictures(shared: Running) -> None:
    async def stream(prompt: str, picture: bytes, expected: tuple[int, int, int]) -> None:
        async with joined(shared, settings={"prompt": prompt}) as peer:
            await peer.send_frame(picture)
            for _ in range(60):
                await peer.send_frame(picture)
                answer = await peer.next_answer()
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


async def test_telemetry_reports_whether_the_spec_may_be_changed_as_others_come_and_go() -> None:
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
            assert (await good.next_answer()).verdict == "generated"
            assert (await bad.next_answer()).verdict == "failed"
        error = next(text for text in bad.texts if text["type"] == "error")
        assert error["code"] == "model_error" and error["frame"] == 1 and not error["fatal"]
        await bad.send("settings", patch={"prompt": "red"})
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
        await third.send("hello", protocol=1, resume=peer.welcome["resume"])
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
            await peer.send("bye")
            assert (await peer.closed())[0] == 1000
        async with joined(running) as late:
            pass
        await asyncio.sleep(0.3)
        for token in (peer.welcome["resume"], late.welcome["resume"], "nonsense"):
            async with connected(running) as again:
                await again.send("hello", protocol=1, resume=token)
                assert await again.closed() == (4410, "resume_expired")
        await asyncio.sleep(1.2)
        assert len(running.hub.seats) == 0 and not running.hub.fleet.owners[0]._states


async def test_a_slow_reader_loses_frames_and_stops_no_other() -> None:
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
            slow.socket.transport.abort()  # type: ignore[attr-defined]


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


async def test_metrics_hold_no_names(shared: Running) -> None:
    async with joined(shared, settings={"prompt": "a very private prompt"}) as peer:
        await peer.round(GREY)
        await peer.next_text("telemetry")
        text = shared.hub.metrics.text().decode()
        assert 'rill_frames_total{verdict="generated"}' in text and "rill_stage_seconds_bucket" in text
        assert "private" not in text and peer.welcome["session"] not in text
