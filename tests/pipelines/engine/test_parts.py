"""A turn that is done in parts, with other sessions' turns between them, makes what it makes as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count, cycle
from pathlib import Path

import numpy as np
import pytest

from pipelines import Entry, Frame, Output, Settings, StreamPipeline, StreamSpec, StreamState, load
from tests.pipelines.engine.test_engine import SIZE, frames
from tests.pipelines.engine.test_forecast import CASES

ONE_ROW = [1]
PARTS = [ONE_ROW, [2, 1, 3], [3, 5]]


@pytest.fixture(scope="module")
def pipeline(mini_model: Path) -> StreamPipeline:
    made = load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))
    for patch in CASES.values():
        made.prepare(Settings().patched(patch) if patch else Settings())
    return made


def in_parts(pipeline: StreamPipeline, entry: Entry, sizes: Sequence[int], between: Callable[[], object] = int) -> Output:
    """The answer to an entry that is given so many rows at a time, and that the forecast of what is left was right."""
    for rows in cycle(sizes):
        expected = pipeline.demand(entry.state, entry.frame, entry.settings)
        (output,) = pipeline.advance([Entry(entry.state, entry.frame, entry.settings, rows)])
        assert pipeline.work.total() == min(rows, expected.total())
        if output is not None:
            assert pipeline.work == expected, "the last part does all that was left"
            return output
        between()
    raise AssertionError


def alike(one: Output, other: Output) -> bool:
    if (one.frame_id, one.verdict, one.superseded) != (other.frame_id, other.verdict, other.superseded):
        return False
    if one.pixels is None or other.pixels is None:
        return one.pixels is other.pixels
    return int(np.abs(one.pixels.numpy().astype(int) - other.pixels.numpy().astype(int)).max()) <= 1  # rows share other calls


CUT = [(name, PARTS[index % len(PARTS)]) for index, name in enumerate(CASES)]
CUT += [("linear", sizes) for sizes in PARTS if ("linear", sizes) not in CUT]
"""Each case is cut in one way, one of four steps with guidance in every way."""


@pytest.mark.parametrize(("case", "sizes"), CUT, ids=str)
def test_parts_make_what_a_whole_step_makes(pipeline: StreamPipeline, case: str, sizes: list[int]) -> None:
    patch = CASES[case]
    settings, light = Settings().patched(patch) if patch else Settings(), Settings()
    whole, cut, other = pipeline.open(settings), pipeline.open(settings), pipeline.open(light)
    (picture,), ids = frames(1), count()

    def between() -> None:
        pipeline.step([Entry(other, replace(picture, id=next(ids)), light)])

    for frame in [*frames(5, "still"), None, None, None]:
        (expected,) = pipeline.step([Entry(whole, frame, settings)])
        assert alike(in_parts(pipeline, Entry(cut, frame, settings), sizes, between), expected), frame
    assert whole.frames == cut.frames


def test_sessions_that_are_cut_and_whole_share_a_step(pipeline: StreamPipeline) -> None:
    """One row of a heavy frame rides with each frame of a light session."""
    heavy = Settings().patched({"steps": 4, "guidance": 1.5, "guidance_mode": "full", "stream_batch.enabled": False})
    states, source = [pipeline.open(heavy), pipeline.open(Settings())], frames(20)
    expected = pipeline.step([Entry(pipeline.open(heavy), source[0], heavy)])[0]
    reference = pipeline.open(Settings())
    for number, frame in enumerate(source, 1):
        cut, whole = pipeline.advance([Entry(states[0], source[0], heavy, 1), Entry(states[1], frame, Settings())])
        assert whole is not None and alike(whole, pipeline.step([Entry(reference, frame, Settings())])[0])
        if cut is not None:
            assert alike(cut, expected) and number == 1 + 4 * 2 + 1, "encoding, four times two rows, decoding"
            return
    raise AssertionError("the heavy frame was never done")


def test_a_setting_that_changes_between_parts_holds_from_the_next_frame(pipeline: StreamPipeline) -> None:
    before, after = Settings().patched({"steps": 2}), Settings().patched({"steps": 2, "prompt": "another"})
    whole, cut, source = pipeline.open(before), pipeline.open(before), frames(2)
    for frame in source:
        (expected,) = pipeline.step([Entry(whole, frame, before)])
        assert pipeline.advance([Entry(cut, frame, before, 1)]) == [None]
        (output,) = pipeline.advance([Entry(cut, frame, after)])
        assert output is not None and alike(output, expected) and output.settings_version == before.version


def ring(state: StreamState) -> list[tuple[int, int]]:
    return [(frame.frame_id, frame.level) for frame in state.ring.frames]


@pytest.mark.parametrize("parts", range(5))
def test_a_step_that_fails_takes_back_all_parts_of_its_turns(
    pipeline: StreamPipeline, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings().patched({"steps": 2, "guidance": 1.5, "guidance_mode": "full"})
    whole, cut = pipeline.open(settings), pipeline.open(settings)
    first, second, third = frames(3)
    for state in (whole, cut):
        pipeline.step([Entry(state, first, settings)])
    before = ring(cut)
    for _ in range(parts):
        assert pipeline.advance([Entry(cut, second, settings, 1)]) == [None]
    run = pipeline.graphs.run

    def broken(part: str, *rest: object) -> object:
        if part in ("full", "decode"):
            raise RuntimeError("out of memory")
        return run(part, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline.graphs, "run", broken)
    with pytest.raises(RuntimeError):
        pipeline.advance([Entry(cut, second, settings)])
    monkeypatch.undo()
    assert ring(cut) == before and cut.turn is None
    for frame in (second, third):
        (expected,) = pipeline.step([Entry(whole, frame, settings)])
        assert alike(in_parts(pipeline, Entry(cut, frame, settings), ONE_ROW), expected)


def test_an_entry_that_limits_its_rows_is_no_whole_step(pipeline: StreamPipeline) -> None:
    state = pipeline.open(Settings())
    with pytest.raises(ValueError, match="advance"):
        pipeline.step([Entry(state, frames(1)[0], Settings(), 1)])


def test_a_prompt_alone_is_cut_too(pipeline: StreamPipeline) -> None:
    settings = Settings().patched({"steps": 3, "stream_batch.enabled": False})
    whole, cut, frame = pipeline.open(settings), pipeline.open(settings), Frame(1, 0.0, None)
    (expected,) = pipeline.step([Entry(whole, frame, settings)])
    assert alike(in_parts(pipeline, Entry(cut, frame, settings), ONE_ROW), expected)
