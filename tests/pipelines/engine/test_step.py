"""One step from entries to answers: verdicts, whose timings are whose, probes, and what a step refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines import Entry, Frame, Settings, StreamPipeline, StreamSpec, load
from pipelines.engine.work import DECODE, ENCODE
from tests.pipelines.engine.test_engine import SIZE, frames


@pytest.fixture(scope="module")
def pipeline(mini_model: Path) -> StreamPipeline:
    return load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))


def test_the_first_answers_of_a_stream_batch_are_warming_and_each_picture_is_its_own_frames(pipeline: StreamPipeline) -> None:
    settings = Settings().patched({"steps": 3})
    state = pipeline.open(settings)
    answers = [pipeline.step([Entry(state, frame, settings)])[0] for frame in frames(4)]
    assert [(answer.frame_id, answer.verdict) for answer in answers] == [
        (0, "warming"),
        (1, "warming"),
        (0, "generated"),
        (1, "generated"),
    ]
    assert [answer.pixels is None for answer in answers] == [True, True, False, False]
    (drained,) = pipeline.step([Entry(state, None, settings)])
    assert drained.frame_id == 2 and state.frames == (3,)
    (empty,) = pipeline.step([Entry(pipeline.open(settings), None, settings)])
    assert (empty.frame_id, empty.verdict, empty.pixels) == (-1, "warming", None)


def test_the_parts_of_a_turn_add_their_times(pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings().patched({"steps": 2, "stream_batch.enabled": False})
    state, (frame,) = pipeline.open(settings), frames(1)
    times = iter([1.0, 2.0, 4.0, 8.0])
    end = pipeline.transfer.end
    monkeypatch.setattr(pipeline.transfer, "end", lambda: replace(end(), encode=0.0, denoise=next(times), decode=0.0))
    found = [pipeline.advance([Entry(state, frame, settings, 1)])[0] for _ in range(4)]
    assert found[:3] == [None] * 3 and found[3] is not None and found[3].timings.denoise == 15.0


def test_a_probe_makes_the_reference_beside_the_frame_and_leaves_the_stream_as_it_is(pipeline: StreamPipeline) -> None:
    probing = Settings().patched({"steps": 2, "probe.enabled": True, "probe.every": 1, "probe.share": 0.5, "noise.mode": "walk"})
    plain = probing.patched({"probe.enabled": False})
    probed, alone = pipeline.open(probing), pipeline.open(plain)
    references = 0
    for frame in frames(6):
        (one,) = pipeline.step([Entry(probed, frame, probing)])
        assert pipeline.work[ENCODE] == 1, "the probe's own rows are not the step's"
        (other,) = pipeline.step([Entry(alone, frame, plain)])
        references += one.reference is not None
        assert other.reference is None
        if one.pixels is not None and other.pixels is not None:
            assert np.array_equal(one.pixels.numpy(), other.pixels.numpy())
    assert references > 0


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((SIZE, SIZE, 4), np.uint8),
        np.zeros((SIZE, SIZE + 1, 3), np.uint8),
        np.zeros((SIZE, SIZE, 3), np.float32),
    ],
)
def test_pixels_of_another_size_or_kind_are_refused_and_nothing_is_admitted(pipeline: StreamPipeline, pixels: np.ndarray) -> None:
    state, good = pipeline.open(Settings()), pipeline.open(Settings())
    (frame,) = frames(1)
    with pytest.raises(ValueError, match="frame 7: pixels must be uint8 of shape"):
        pipeline.step([Entry(good, frame, Settings()), Entry(state, Frame(7, 0.0, pixels), Settings())])
    assert (state.in_flight, good.in_flight, good.turn) == (0, 0, None)
    (answer,) = pipeline.step([Entry(good, frame, Settings())])
    assert answer.pixels is not None


def test_two_sessions_may_bring_the_same_frame(pipeline: StreamPipeline) -> None:
    (frame,) = frames(1)
    states = [pipeline.open(Settings()), pipeline.open(Settings())]
    one, other = pipeline.step([Entry(state, frame, Settings()) for state in states])
    assert one.pixels is not None and other.pixels is not None
    assert np.array_equal(one.pixels.numpy(), other.pixels.numpy())
    assert (pipeline.work[ENCODE], pipeline.work[DECODE], pipeline.work.total()) == (2, 2, 6)


def test_a_step_without_entries_does_nothing(pipeline: StreamPipeline) -> None:
    assert pipeline.step([]) == [] and pipeline.work.total() == 0


def test_a_step_that_fails_ages_nothing_that_was_remembered(pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings().patched({"cache.enabled": True, "cache.interval": 3, "cache.policy": "interval"})
    settings = settings.patched({"cache.cascade": False})
    pipeline.prepare(settings)
    state, (first, second) = pipeline.open(settings), frames(2, "still")
    pipeline.step([Entry(state, first, settings)])
    (before,) = state.cache.values()
    run = pipeline.graphs.run

    def broken(part: str, *rest: object) -> object:
        if part == "shallow":
            raise RuntimeError("out of memory")
        return run(part, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline.graphs, "run", broken)
    with pytest.raises(RuntimeError):
        pipeline.step([Entry(state, second, settings)])
    (after,) = state.cache.values()
    assert after is before and after.state.age == 0
    monkeypatch.undo()
    (answer,) = pipeline.step([Entry(state, second, settings)])
    assert answer.verdict == "cached"
