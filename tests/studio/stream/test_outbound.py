"""The way out: results in their order, verdicts, quality, failures, another pipeline, and a socket that blocks."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from pipelines import HostPicture, Quality
from studio.wire.protocol import Answer, parse_answer
from studio.wire.sockets import Disconnected
from tests.studio.stream.manual import Bench

GREY = HostPicture(np.full((128, 128, 3), 90, np.uint8))


def in_the_model(bench: Bench, *frame_ids: int) -> None:
    for frame_id in frame_ids:
        bench.send(frame_id)
        bench.run()


def test_results_are_compressed_and_sent_in_the_order_of_the_model() -> None:
    bench = Bench(credit=3)
    in_the_model(bench, 1, 2, 3)
    for index in range(3):
        bench.done(index, GREY)
    assert len(bench.pool.tasks) == 1, "one at a time, or the second might overtake the first"
    bench.run()
    assert bench.answers() == [(1, "generated", 1), (2, "generated", 2), (3, "generated", 3)]
    form, picture = bench.stream.latest.picture or ("", b"")
    assert form == "jpeg" and picture[:3] == b"\xff\xd8\xff"


def test_an_answer_bears_the_times_of_its_frame() -> None:
    bench = Bench()
    bench.send(1)
    bench.now += 0.25
    bench.run()
    bench.now += 0.5
    bench.done(0, GREY)
    bench.run()
    (answer,) = bench.sent()
    assert (answer.timings.receive, answer.timings.denoise, answer.timings.wait) == (250.0, 5.0, 2.0)
    assert answer.timings.total == 750.0 and answer.captured_at == 100.0


@pytest.mark.parametrize(("has_frame", "verdict"), [(True, "warming"), (False, "skipped")])
def test_a_job_without_a_frame_is_answered_as_skipped(has_frame: bool, verdict: str) -> None:
    bench = Bench()
    in_the_model(bench, 1)
    bench.done(0, verdict="warming", in_flight=1)
    bench.run()
    bench.gate.still = not has_frame
    in_the_model(bench, 2)
    bench.done(1, verdict="warming", frame_id=1, in_flight=1)
    bench.run()
    assert bench.answers()[-1] == (2, verdict, 2)


def test_infinite_quality_and_missing_flicker_have_finite_numbers() -> None:
    bench = Bench()
    in_the_model(bench, 1)
    bench.done(0, GREY, reference=GREY)
    bench.run()
    (answer,) = bench.sent()
    assert answer.psnr == 100.0 and answer.ssim == pytest.approx(1.0) and math.isnan(answer.flicker)
    assert bench.stream.window.quality == {"ssim": answer.ssim, "psnr": 100.0, "flicker": None}
    assert Quality(1.0, math.inf, None).psnr == math.inf


def test_references_are_sent_before_their_answer_and_only_if_wanted() -> None:
    bench = Bench()
    for frame_id, wanted in ((1, False), (2, True)):
        bench.session.wants_references = wanted
        in_the_model(bench, frame_id)
        bench.done(-1, GREY, reference=GREY)
        bench.run()
        kinds = [type(message) for message in bench.sent()]
        assert kinds == ([bytes, Answer] if wanted else [Answer])


def test_a_failure_of_the_model_is_no_error_of_the_client_and_the_gate_forgets_the_frame() -> None:
    bench = Bench()
    in_the_model(bench, 1)
    job = bench.fleet.jobs[0]
    from studio.model.jobs import JobResult

    job.on_done(JobResult(None, "out of memory", 0, 0.0, bench.now))
    bench.run()
    error, answer = bench.sent()
    assert json.loads(error)["code"] == "model_error" and json.loads(error)["message"] == "out of memory"
    assert answer.verdict == "failed" and bench.errors == ["model_error"]
    bench.gate.still = True
    assert not bench.gate.decide(None, bench.session.settings).skip
    assert b'rill_errors_total{code="model_error"} 1.0' in bench.metrics.text()


def test_a_swap_posts_the_old_answers_then_its_message_and_lost_frames_are_named() -> None:
    bench = Bench(credit=3)
    in_the_model(bench, 1, 2)
    bench.done(0, verdict="warming", in_flight=1)
    bench.done(1, GREY, frame_id=2, in_flight=1)
    bench.stream.callbacks.pipeline_swapped((1,), lambda: "the spec message")
    bench.run()
    *answers, message = bench.sent()
    assert [(one.frame_id, one.verdict, one.reason) for one in answers] == [
        (1, "warming", "none"),
        (2, "generated", "none"),
        (1, "dropped", "spec"),
    ]
    assert message == "the spec message" and bench.session.totals["dropped"] == 0, "it was counted as warming"


def test_without_a_connection_a_swap_posts_nothing() -> None:
    bench = Bench()
    bench.stream.detach()
    bench.stream.callbacks.pipeline_swapped((1,), lambda: pytest.fail("the next welcome describes the pipeline"))
    bench.run()
    assert bench.session.outbox == []


class FakeSocket:
    """Takes a message when it is let."""

    def __init__(self, taken: Callable[[], None] = lambda: None) -> None:
        self.messages: list[str | bytes] = []
        self.ready = asyncio.Event()
        self.blocked = asyncio.Event()
        self.gone = False
        self._taken = taken

    async def receive(self) -> str | bytes:
        raise Disconnected

    async def send(self, message: str | bytes) -> None:
        if self.gone:
            raise Disconnected
        self.blocked.set()
        await self.ready.wait()
        self.messages.append(message)
        self._taken()

    async def close(self, code: int, reason: str) -> None:
        pass


async def test_while_the_socket_blocks_only_the_newest_picture_waits() -> None:
    bench = Bench(credit=4)

    def taken() -> None:
        bench.now += 0.5

    socket = FakeSocket(taken)
    sending = asyncio.create_task(bench.stream.outbound.deliver(bench.mailbox, socket))
    in_the_model(bench, 1, 2, 3, 4)
    bench.done(0, GREY)
    bench.run()
    async with asyncio.timeout(5):
        await socket.blocked.wait()
    assert bench.session.send_blocked
    for index in (1, 2, 3):
        bench.done(index, GREY)
    bench.run()
    socket.ready.set()
    async with asyncio.timeout(5):
        while bench.session.outbox or bench.session.send_blocked:
            await asyncio.sleep(0)
    answers = [parse_answer(message) for message in socket.messages if isinstance(message, bytes)]
    assert [answer.frame_id for answer in answers if answer.format != "none"] == [1, 4]
    assert bench.session.drops == {"unsent": 2} and bench.stream.outbound.send_ms == 500.0 * len(answers)
    assert f'rill_bytes_total{{direction="out"}} {sum(map(len, socket.messages))}.0'.encode() in bench.metrics.text()
    socket.gone = True
    bench.mailbox.post_or_drop("more")
    with pytest.raises(Disconnected):
        await sending
