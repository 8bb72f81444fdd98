"""The inputs that int8 graphs are calibrated with."""

from pathlib import Path

import pytest

from benchmarks import clips
from pipelines import StreamSpec, load
from pipelines.graphs.calibration import Calibration
from pipelines.graphs.graphs import GraphKey

SIZE = 128
CLIP = clips.clip("handheld", SIZE, SIZE)


def test_every_graph_of_int8_is_calibrated_with_inputs_of_its_own_shape(calibrated: Path) -> None:
    pipeline = load(StreamSpec(str(calibrated), SIZE, SIZE, "openvino", "float32"), warm=False)
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
        assert len(given) == -(-5 // rows)
        for sample in given:
            assert [value.shape for value in sample] == shapes
            assert all(value.isfinite().all() for value in sample)
    with pytest.raises(ValueError, match="encode"):
        samples("encode", 1, None)
