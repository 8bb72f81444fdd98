"""What the model's thread calls: it never waits, and what it reports stays in order."""

from __future__ import annotations

import numpy as np

from pipelines import HostPicture
from tests.studio.stream.manual import Bench

GREY = HostPicture(np.full((128, 128, 3), 90, np.uint8))


def test_a_result_is_only_handed_on() -> None:
    bench = Bench()
    bench.send(1)
    bench.run()
    bench.done(0, GREY, in_flight=3)
    assert bench.stream.callbacks.frames_inside == 3
    assert len(bench.pool.tasks) == 1 and not bench.loop.calls and not bench.session.outbox


def test_a_near_turn_returns_the_credit_of_one_superseded_frame() -> None:
    bench = Bench(credit=3)
    for frame_id in (1, 2):
        bench.fleet.unused = bench.fleet.jobs[-1] if bench.fleet.jobs else None
        bench.send(frame_id)
        bench.run()
    assert bench.session.settled == 0
    bench.stream.callbacks.turn_near()
    assert bench.session.settled == 0, "the session belongs to the event loop"
    bench.run()
    assert bench.answers() == [(1, "dropped", 1)]


def test_after_a_swap_nothing_is_inside_and_the_gate_has_no_reference() -> None:
    bench = Bench()
    bench.send(1)
    bench.run()
    bench.done(0, verdict="warming", in_flight=1)
    bench.stream.callbacks.pipeline_swapped((1,), lambda: "spec")
    assert bench.stream.callbacks.frames_inside == 0
    bench.gate.still = True
    assert not bench.gate.decide(None, bench.session.settings).skip
    bench.run()
    assert bench.sent()[-1] == "spec", "after the results of the old pipeline"
