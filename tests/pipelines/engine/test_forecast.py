"""The forecast of a step's UNet rows, against the rows that the engine then computes."""

from collections import Counter
from pathlib import Path

import pytest

from pipelines import Entry, Frame, Settings, StreamPipeline, StreamSpec, load
from tests.pipelines.engine.test_engine import SIZE, frames

CASES = {
    "plain": {},
    "batch": {"steps": 3},
    "sequential": {"steps": 3, "stream_batch.enabled": False},
    "full guidance": {"steps": 2, "guidance": 1.5, "guidance_mode": "full"},
    "one-time": {"steps": 3, "guidance": 1.5, "guidance_mode": "one-time"},
    "adaptive": {"steps": 2, "guidance": 1.5, "guidance_mode": "adaptive", "guidance_alike": 0.5},
    "linear": {"steps": 4, "guidance": 1.5, "guidance_mode": "linear"},
    "linear, sequential": {"steps": 3, "guidance": 1.5, "guidance_mode": "linear", "stream_batch.enabled": False},
    "interval": {
        "steps": 4,
        "guidance": 1.5,
        "guidance_mode": "one-time",
        "guidance_schedule": "interval",
        "interval_low": 0.2,
        "interval_high": 0.4,
    },
    "cache across frames": {"cache.enabled": True, "cache.interval": 3, "cache.policy": "interval"},
    "cascade": {
        "cache.enabled": True,
        "cache.interval": 5,
        "cache.cascade": True,
        "steps": 2,
        "guidance_mode": "full",
        "guidance": 2.0,
    },
    "cache, sequential": {"cache.enabled": True, "cache.reuse": "steps", "steps": 4, "stream_batch.enabled": False},
    "cache, batch": {"cache.enabled": True, "cache.reuse": "encoder", "steps": 4},
}


@pytest.fixture(scope="module")
def pipeline(mini_model: Path) -> StreamPipeline:
    made = load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))
    for patch in CASES.values():
        made.prepare(Settings().patched(patch) if patch else Settings())
    return made


@pytest.mark.parametrize("patch", CASES.values(), ids=CASES)
def test_the_forecast_is_what_the_step_takes(pipeline: StreamPipeline, patch: dict[str, object]) -> None:
    settings = Settings().patched(patch) if patch else Settings()
    state = None
    for frame in [*frames(7, "still"), None, None, None]:
        expected = pipeline.demand(state, frame, settings)
        state = pipeline.open(settings) if state is None else state
        pipeline.step([Entry(state, frame, settings)])
        assert +expected == +pipeline.work, frame


def test_rows_of_sessions_add_up(pipeline: StreamPipeline) -> None:
    batched, alone = Settings().patched({"steps": 2}), Settings()
    states = [pipeline.open(batched), pipeline.open(alone)]
    source = frames(3)
    for frame in source:
        expected = Counter[object]()
        for state, settings in zip(states, (batched, alone), strict=True):
            expected.update(pipeline.demand(state, frame, settings))
        pipeline.step([Entry(states[0], frame, batched), Entry(states[1], frame, alone)])
        assert expected == pipeline.work
    assert pipeline.work.total() == 2 + 3 + 2, "pictures, rows of the UNet, pictures"


def test_time_is_put_beside_the_rows_of_the_step_that_took_it(pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU that is the step itself; on CUDA one that was launched before, and sometimes none."""
    batched = Settings().patched({"steps": 3})
    state, source, works = pipeline.open(batched), frames(6), []
    for frame, lag in zip(source, (0, 1, 1, 1, 3, 2), strict=True):
        monkeypatch.setattr(pipeline.transfer, "lag", lag, raising=False)
        pipeline.step([Entry(state, frame, batched)])
        works.append(pipeline.work)
        if len(works) in (2, 5):  # the first step over again; nothing more over since the third
            assert pipeline.measured is None
        else:
            assert pipeline.measured is not None
            assert sum((work for work, _ in pipeline.measured), Counter()) == works[-1 - lag]
            assert all(0.0 < seconds < 60.0 for _, seconds in pipeline.measured)
    assert [work.total() for work in works[:4]] == [2, 3, 5, 5], "the first two have nothing to decode"


def test_a_frame_that_only_moves_others_on(pipeline: StreamPipeline) -> None:
    settings = Settings().patched({"steps": 2})
    assert not pipeline.demand(None, None, settings)
    assert pipeline.demand(None, Frame(1, 0.0, None), settings).total() == 1
