"""A refined picture goes out with the answer of a frame that repeats the one it was made of; never after movement has begun."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines import HostPicture, Output, Pixels, Settings, StageTimings, gate
from studio.pictures import codec
from studio.stream.session_gate import SessionGate
from studio.wire.protocol import Answer, PictureEncoding
from tests.studio.stream.manual import Bench

ON = {"refine.enabled": True}


def png(value: int) -> bytes:
    return codec.encode(np.full((128, 128, 3), value, np.uint8), PictureEncoding("png"))


def bench(patch: dict[str, object] | None = None) -> Bench:
    made = Bench()
    made.session.encoding = PictureEncoding("png")
    made.session.settings = Settings().patched({**ON, **(patch or {})})
    return made


def drawn(made: Bench, frame_id: int, value: int = 50) -> None:
    """A frame passes the gate, and the model draws it."""
    made.gate.still = False
    made.send(frame_id, "png", png(value))
    made.run()
    made.done(pixels=HostPicture(np.full((128, 128, 3), value, np.uint8)))
    made.run()


def refine(made: Bench, frame_id: int, value: int) -> None:
    """The model has a better picture of this frame."""
    pixels = HostPicture(np.full((128, 128, 3), value, np.uint8))
    job = made.fleet.jobs[-1]
    assert job.on_refined is not None
    job.on_refined(Output(frame_id, made.session.settings.version, pixels, "generated", StageTimings(denoise=7.0)))
    made.run()


def skip(made: Bench, frame_id: int) -> Answer:
    """The gate skips a frame. Returns its answer."""
    made.gate.still = True
    made.send(frame_id, "png", png(50))
    made.run()
    answer = [message for message in made.sent() if isinstance(message, Answer)][-1]
    assert answer.frame_id == frame_id
    return answer


def value(answer: Answer) -> int:
    return int(codec.read(memoryview(answer.picture), "png", Bench().session.limits)[0, 0, 0])


def test_a_repeat_becomes_a_refinement_once() -> None:
    made = bench()
    drawn(made, 1)
    assert skip(made, 2).verdict == "skipped"
    refine(made, 1, 60)
    refine(made, 1, 70)
    answer = skip(made, 3)
    assert (answer.verdict, value(answer), answer.settled) == ("generated", 70, 3), "the newest, as any picture"
    assert answer.timings.denoise == 7.0 and answer.timings.wait == 0.0
    assert skip(made, 4).verdict == "skipped"
    assert made.session.totals == {"received": 4, "generated": 2, "skipped": 2}
    assert made.stream.latest.picture == ("png", answer.picture)


def test_a_picture_of_before_the_movement_never_follows_it() -> None:
    made = bench()
    drawn(made, 1)
    made.gate.still = False
    made.send(2, "png", png(90))  # movement
    made.run()
    refine(made, 1, 60)  # was under way
    made.gate.still = True
    made.send(3, "png", png(90))
    made.run()
    made.done(pixels=HostPicture(np.full((128, 128, 3), 90, np.uint8)))
    made.run()
    answers = [message for message in made.sent() if isinstance(message, Answer)][1:]
    assert [(answer.frame_id, answer.verdict) for answer in answers] == [(2, "generated"), (3, "skipped")]
    assert value(answers[0]) == 90
    refine(made, 1, 70)  # later still
    assert skip(made, 4).verdict == "skipped"


def test_a_new_connection_gets_no_refinement_of_the_last_ones_picture() -> None:
    made = bench()
    drawn(made, 1)
    refine(made, 1, 60)
    made.stream.detach()
    made.mailbox = made.stream.attach()
    made.gate._reset = False  # as if the gate skipped its first frame
    assert skip(made, 2).verdict == "skipped"


def test_files_and_streams_with_the_switch_off_are_not_refined() -> None:
    off, every = bench({"refine.enabled": False}), bench()
    every.session.every = True
    for made in (off, every):
        drawn(made, 1)
        assert made.fleet.jobs[-1].on_refined is None


# The gate.

STILL = {**ON, "gate.enabled": True, "gate.max_skip": 3, "gate.threshold": 0.9}


def noisy(seed: int) -> Pixels:
    """One scene under a camera's noise."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(40, 200, 128)[None, :, None] + np.zeros((128, 128, 3))
    return np.clip(ramp + rng.normal(0, 4, ramp.shape), 0, 255).astype(np.uint8)


def passed(mine: SessionGate, settings: Settings, count: int, **about: Any) -> list[int]:
    return [index for index in range(count) if not mine.decide(noisy(index), settings, **about).skip]


def test_a_scene_at_rest_is_not_drawn_again_until_something_moves() -> None:
    settings, off = Settings().patched(STILL), Settings().patched({**STILL, "refine.enabled": False})
    assert len(passed(SessionGate(), off, 40)) >= 10, "every fourth frame, without refinement"
    mine = SessionGate()
    assert passed(mine, settings, 40) == [0]
    assert not mine.decide(255 - noisy(1), settings).skip, "movement"
    assert not mine.decide(noisy(1), settings).skip, "movement"
    assert not passed(mine, settings, 40)


def test_a_rest_ends_with_other_settings_and_while_the_picture_changes_by_itself() -> None:
    settings, mine = Settings().patched(STILL), SessionGate()
    passed(mine, settings, 9)
    changed = settings.patched({"prompt": "ink"})
    assert not mine.decide(noisy(1), changed).skip
    assert len(passed(mine, changed, 12, changing=True)) >= 3


@pytest.mark.parametrize("most", [1, 2, 10])
def test_a_scene_rests_after_a_few_skips_and_no_sooner(most: int) -> None:
    """A die that always lets frames through does so until then."""
    settings = Settings().patched({**STILL, "gate.max_skip": most}).gate
    state, thumb = gate.GateState(), gate.thumbnail(noisy(0))
    _, state = gate.decide(state, thumb, settings, 0.0, 1, True)
    for count in range(min(gate.AT_REST, most)):
        close = gate.thumbnail(noisy(count + 1))
        assert not gate.decide(state, close, settings, 1.0, 1, True)[0].skip
        answer, state = gate.decide(state, close, settings, 0.0, 1, True)
        assert answer.skip
    assert gate.decide(state, gate.thumbnail(noisy(9)), settings, 1.0, 1, True)[0].skip
    assert not gate.decide(state, gate.thumbnail(noisy(9)), settings, 1.0, 1, False)[0].skip


def test_without_the_gate_only_the_very_same_picture_rests() -> None:
    settings, mine, picture = Settings().patched(ON), SessionGate(), noisy(1)
    almost = picture.copy()
    almost[3, 4, 1] ^= 1
    assert [mine.decide(each, settings).skip for each in (picture, picture.copy(), almost, almost, picture)] == [
        False, True, False, True, False,
    ]  # fmt: skip
    assert not mine.decide(picture, settings.patched({"strength": 0.6})).skip
    assert not mine.decide(picture, settings, changing=True).skip
    assert not mine.decide(picture, settings).skip, "it was drawn while the picture changed"
    mine.reset()
    assert not mine.decide(picture, settings).skip
    assert [mine.decide(None, settings).skip for _ in range(3)] == [False, True, True]


def test_with_the_switch_off_nothing_rests_without_the_gate() -> None:
    session_gate, picture = SessionGate(), noisy(1)
    assert not any(session_gate.decide(picture, Settings()).skip for _ in range(3))
