"""The way in: one frame is read at a time, what is broken fails alone, what is still does not reach the model."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from pipelines import Pixels
from studio.pictures import codec
from studio.wire.protocol import Answer, PictureEncoding, ProtocolError, is_mask, pack_mask, pack_picture
from tests.studio.stream.manual import Bench


def png(value: int, size: int = 128) -> bytes:
    return codec.encode(flat(value, size), PictureEncoding("png"))


def flat(value: int, size: int = 128) -> Pixels:
    return np.full((size, size, 3), value, np.uint8)


def test_a_frame_is_decoded_in_the_pool_and_offered_in_the_size_of_the_stream() -> None:
    bench = Bench()
    bench.send(1, "png", png(70, 256))
    assert bench.stream.inbound.reading and not bench.fleet.jobs, "decoded on the event loop"
    bench.run()
    (job,) = bench.fleet.jobs
    assert job.frame is not None and job.frame.id == 1 and np.array_equal(job.frame.pixels, flat(70))
    assert not bench.stream.inbound.reading and job.inputs is bench.session


def test_one_frame_is_read_at_a_time_and_the_newest_of_those_that_wait_follows() -> None:
    bench = Bench(credit=3)
    for frame_id in (1, 2, 3):
        bench.send(frame_id)
    assert len(bench.pool.tasks) == 1
    bench.run()
    assert [job.frame.id for job in bench.fleet.jobs] == [1, 3]  # type: ignore[union-attr]
    assert bench.session.drops == {"superseded": 1}


def test_a_wrong_header_is_an_error_of_the_client_and_a_broken_picture_a_failed_frame() -> None:
    bench = Bench()
    with pytest.raises(ProtocolError):
        bench.stream.inbound.receive_frame(b"short", 0.0)
    bench.send(1, "png", b"no picture")
    bench.run()
    error, answer = bench.sent()
    assert '"bad_frame"' in error and '"frame": 1' in error
    assert isinstance(answer, Answer) and (answer.verdict, answer.settled) == ("failed", 1)
    assert bench.errors == ["bad_frame"] and not bench.fleet.jobs
    bench.send(2)
    bench.run()
    assert len(bench.fleet.jobs) == 1, "the next frame goes its way"


def test_a_still_frame_is_skipped_without_the_model() -> None:
    bench = Bench()
    bench.send(1)
    bench.run()
    bench.done(pixels=None)
    bench.run()
    bench.gate.still = True
    bench.send(2)
    bench.run()
    assert len(bench.fleet.jobs) == 1
    assert bench.answers()[-1] == (2, "skipped", 2)


def test_a_still_frame_lets_the_stream_batch_move_on() -> None:
    bench = Bench()
    bench.send(1)
    bench.run()
    bench.done(verdict="warming", in_flight=1)
    bench.run()
    bench.gate.still = True
    bench.send(2)
    bench.run()
    assert bench.fleet.jobs[-1].frame is None, "the frame in the stream batch would never be finished"
    bench.fleet.jobs[-1].on_unused()
    assert bench.answers() == [(1, "warming", 1), (2, "skipped", 2)]


def test_the_job_that_a_newer_one_replaced_is_superseded_and_the_gate_forgets_it() -> None:
    bench = Bench(credit=3)
    bench.send(1)
    bench.run()
    bench.gate.decide(None, bench.session.settings)
    bench.fleet.unused = bench.fleet.jobs[0]
    bench.send(2)
    bench.run()
    assert not bench.session.awaits(1) and bench.session.awaits(2)
    bench.gate.still = True
    assert not bench.gate.decide(None, bench.session.settings).skip, "that frame was never drawn"


def test_an_error_of_our_own_fails_what_is_in_flight_and_the_stream_goes_on() -> None:
    bench = Bench()
    bench.gate.broken = True
    bench.send(1)
    bench.run()
    assert bench.answers() == [(1, "failed", 1)] and not bench.stream.inbound.reading
    bench.send(2)
    bench.run()
    assert bench.fleet.jobs[-1].frame.id == 2  # type: ignore[union-attr]


async def received(bench: Bench, message: bytes) -> str:
    """The reply to a mask or a picture prompt, once the pool has decoded it."""
    inbound = bench.stream.inbound
    receive = inbound.receive_mask if is_mask(message) else inbound.receive_picture_prompt
    receiving = asyncio.create_task(receive(message))
    await asyncio.sleep(0)
    bench.run()
    return await receiving


@pytest.mark.parametrize("kind", ["mask", "picture"])
async def test_masks_and_picture_prompts_are_kept_replaced_and_removed(kind: str) -> None:
    bench = Bench()
    bench.gate.decide(None, bench.session.settings)
    bench.gate.still = True
    reply = await received(bench, pack_mask(5, png(255, 64)) if kind == "mask" else pack_picture(5, "png", png(9, 64)))
    assert '"present": true' in reply and '"request": 5' in reply
    assert not bench.gate.decide(None, bench.session.settings).skip, "a still picture is drawn with it"
    kept = getattr(bench.session, kind)
    with pytest.raises(ProtocolError) as caught:
        await received(bench, pack_mask(6, b"broken") if kind == "mask" else pack_picture(6, "png", b"broken"))
    assert caught.value.request == 6 and kept is not None and getattr(bench.session, kind) is kept
    reply = await received(bench, pack_mask(7) if kind == "mask" else pack_picture(7))
    assert '"present": false' in reply and getattr(bench.session, kind) is None
