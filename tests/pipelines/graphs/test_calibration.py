"""The inputs that int8 graphs are calibrated with."""

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks import clips
from pipelines import Entry, Frame, Settings, StreamPipeline, StreamSpec, load
from pipelines.graphs import calibration
from pipelines.graphs.calibration import Calibration, Stream, streams
from pipelines.graphs.keys import GraphKey

SIZE = 128
CLIP = clips.clip("handheld", SIZE, SIZE)


@pytest.fixture(scope="module")
def pipeline(calibrated: Path) -> StreamPipeline:
    return load(StreamSpec(str(calibrated), SIZE, SIZE, "eager", "float32", "cpu"), warm=False)


def test_every_graph_of_int8_is_calibrated_with_inputs_of_its_own_shape(
    pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "PAIRS", 3)
    samples = Calibration(pipeline.graphs.parts, pipeline.spec)
    for part, rows, branch in (
        ("full", 2, None),
        ("shallow", 2, 1),
        ("relay", 2, 1),
        ("encoder", 1, None),
        ("decoder", 1, None),
        ("decode", 4, None),
    ):
        key = GraphKey(part, rows, branch)
        shapes = [value.shape for value in pipeline.graphs._example(key)]
        given = samples(part, rows, branch)
        assert len(given) == -(-(6 if part == "decode" else 3 * (1 + calibration.STEPS)) // rows)
        for sample in given:
            assert [value.shape for value in sample] == shapes
            assert all(value.isfinite().all() for value in sample)
    with pytest.raises(ValueError, match="encode"):
        samples("encode", 1, None)


@pytest.mark.parametrize("solver", ["lcm", "dpmpp-2m"])
def test_the_rows_are_what_a_stream_gives_to_the_network(
    pipeline: StreamPipeline, calibrated: Path, solver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream(pipeline.info.prompts[0] if pipeline.info.prompts else "", 0.7, 4, seed=2)
    taken: list[tuple[torch.Tensor, ...]] = []
    run = pipeline.graphs.run

    def recorded(part: str, inputs: tuple[torch.Tensor, ...], *more: object) -> tuple[torch.Tensor, ...]:
        if part == "full":
            taken.append(inputs)
        return run(part, inputs, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline.graphs, "run", recorded)
    settings = Settings().patched(
        {"prompt": stream.prompt, "strength": 0.7, "steps": 4, "seed": 2, "solver": solver, "stream_batch.enabled": False}
    )
    picture = calibration.pictures(pipeline.graphs.parts.calibration, SIZE, SIZE)[stream.seed]
    pipeline.step([Entry(pipeline.open(settings), Frame(0, 0.0, picture), settings)])

    samples = Calibration(pipeline.graphs.parts, pipeline.spec)
    monkeypatch.setattr(calibration, "streams", lambda *_: [stream])
    monkeypatch.setattr(samples.parts, "schedule", dataclasses.replace(samples.parts.schedule, solver=solver))
    with torch.inference_mode():
        made = list(samples._made())
    assert [row.last for row in made] == [False, False, False, True]
    for row, (x, modulation, embedding) in zip(made, taken, strict=True):
        torch.testing.assert_close(row.x, x, atol=2e-4, rtol=2e-4)
        torch.testing.assert_close(row.modulation, modulation, atol=2e-4, rtol=2e-4)
        torch.testing.assert_close(row.embedding, embedding)


def test_all_looks_have_their_turn_at_two_strengths_and_both_numbers_of_steps() -> None:
    looks = tuple(f"look {index}" for index in range(9))
    found = streams(looks, 16, 64 * 64)
    assert Counter(stream.prompt for stream in found) == dict.fromkeys(looks, 4)
    assert {(stream.prompt, stream.steps) for stream in found} == {(look, steps) for look in looks for steps in (1, 4)}
    assert all(len({stream.strength for stream in found if stream.prompt == look}) == 2 for look in looks)
    assert {stream.seed % 16 for stream in found} == set(range(16))  # every picture


@pytest.mark.parametrize(("looks", "cells", "pairs"), [(1, 64 * 64, 16), (9, 128 * 128, 9), (9, 256 * 256, 9), (70, 64 * 64, 22)])
def test_a_calibration_stays_short(looks: int, cells: int, pairs: int) -> None:
    assert len(streams([str(index) for index in range(looks)], 16, cells)) == 2 * pairs


def test_a_model_of_one_step_is_calibrated_with_one_step() -> None:
    assert {stream.steps for stream in streams(("",), 4, 64 * 64, 1)} == {1}


def test_the_features_of_a_calibration_stay_within_a_limit(pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "PAIRS", 2)
    samples = Calibration(pipeline.graphs.parts, pipeline.spec)
    whole = samples("decoder", 1, None)
    one = sum(value.nbytes for value in whole[0])
    monkeypatch.setattr(calibration, "FEATURES", 3 * one + 1)
    assert len(whole) == 10 and len(samples("decoder", 1, None)) == 3
    monkeypatch.setattr(calibration, "FEATURES", 1)
    assert len(samples("decoder", 1, None)) == 1
