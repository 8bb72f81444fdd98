"""Rows laid over graphs of several sizes, and what a graph of which name is."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import clips
from pipelines import Entry, Frame, Settings, StreamSpec, load
from pipelines.graphs.graphs import Graphs, padded
from pipelines.graphs.keys import GraphKey
from pipelines.graphs.layout import Layout
from tests.streams import decoded

SIZE = 128
CLIP = clips.clip("handheld", SIZE, SIZE)


def test_a_batch_over_several_buckets_is_the_same_as_one_by_one(one_chunk_model: Path, graph_cache: Path) -> None:
    pipeline = load(StreamSpec(str(one_chunk_model), SIZE, SIZE, "openvino", "float32"), graph_cache)
    settings = Settings()
    alone = [pipeline.step([Entry(pipeline.open(settings), Frame(0, 0.0, CLIP[i]), settings)])[0] for i in range(3)]
    pipeline.prepare(settings, sessions=3)
    entries = [Entry(pipeline.open(settings), Frame(0, 0.0, CLIP[i]), settings) for i in range(3)]
    for one, other in zip(alone, pipeline.step(entries), strict=True):
        assert one.pixels is not None and other.pixels is not None
        assert np.abs(one.pixels.numpy().astype(int) - other.pixels.numpy()).max() <= 1


class Counted:
    """A graph of one size that doubles its rows and records how often it ran."""

    def __init__(self, size: int) -> None:
        self.size, self.calls = size, 0

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        assert x.shape[0] == self.size
        self.calls += 1
        return 2 * x, x + 1


def graphs(layout: Layout, *sizes: int) -> tuple[Graphs, dict[int, Counted]]:
    """Graphs with a part "full" that is ready at these sizes."""
    parts, backend = SimpleNamespace(latent_channels=4, hires=None, windows=None, small=None), SimpleNamespace(layout=layout)
    made = Graphs(parts, StreamSpec(width=128, height=128), backend)  # type: ignore[arg-type]
    ready = {size: Counted(size) for size in sizes}
    for size, graph in ready.items():
        made.resident.add(GraphKey("full", size), graph, 0)
    return made, ready


@pytest.mark.parametrize(
    ("per_call", "rows", "calls"),
    [(None, 7, {1: 1, 2: 1, 4: 1}), (None, 3, {1: 1, 2: 1, 4: 0}), (2.0, 3, {1: 0, 2: 0, 4: 1}), (2.0, 1, {1: 1, 2: 0, 4: 0})],
)
def test_rows_come_back_in_their_order_whatever_they_are_laid_over(
    per_call: float | None, rows: int, calls: dict[int, int]
) -> None:
    made, ready = graphs(Layout((1, 2, 4), per_call), 1, 2, 4)
    x = torch.arange(float(rows))[:, None]
    double, plus = made.run("full", (x,))
    assert torch.equal(double, 2 * x) and torch.equal(plus, x + 1), "rows that only fill a graph are gone"
    assert {size: graph.calls for size, graph in ready.items()} == calls


def test_rows_are_filled_up_with_the_last_one() -> None:
    x = torch.tensor([[1.0], [2.0]])
    assert padded(x, 4).tolist() == [[1.0], [2.0], [2.0], [2.0]] and padded(x, 2) is x


def test_a_branch_that_a_pass_does_not_have_is_refused(mini_model: Path) -> None:
    pipeline = load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"), warm=False)
    for key in (GraphKey("shallow", 1), GraphKey("relay", 1, 0), GraphKey("guess", 1)):
        with pytest.raises(ValueError, match="no graph of kind"):
            pipeline.graphs.build(key)
        assert not pipeline.graphs.ready(key)


@pytest.mark.long
def test_prompts_of_more_chunks_have_static_graphs_of_their_own(one_chunk_model: Path, graph_cache: Path) -> None:
    """Two sessions in one step, with one chunk and with two, full passes and short ones; then the shorter prompt grows."""
    short = Settings().patched(
        {"prompt": "ink", "steps": 1, "strength": 0.7, "cache.enabled": True, "cache.interval": 2, "cache.branch": 0}
    )
    long = short.patched({"prompt": "a red fox on a wide field of snow"})
    latents: dict[str, list[Tensor]] = {}
    for backend in ("eager", "openvino"):
        pipeline = load(StreamSpec(str(one_chunk_model), SIZE, SIZE, backend, "float32"), graph_cache, warm=False)
        for settings in (short, long):
            pipeline.prepare(settings)
        assert [pipeline.graphs.ready(GraphKey("full", 1, 0, chunks)) for chunks in (1, 2, 3)] == [True, True, False]
        states = pipeline.open(short), pipeline.open(long)
        with decoded(pipeline) as latents[backend]:
            for index, wishes in enumerate(((short, long), (short, long), (long, long), (long, long))):
                frame = Frame(index, index / 25, CLIP[0])
                pipeline.step([Entry(state, frame, wish) for state, wish in zip(states, wishes, strict=True)])
    for got, expected in zip(latents["openvino"], latents["eager"], strict=True):
        assert got.shape == expected.shape and (got - expected).abs().max() < 6e-3 * expected.abs().max()
    first, last = latents["eager"][0], latents["eager"][-1]
    assert (first[0] - last[0]).abs().max() > 1e-2 * first.abs().max(), "the longer prompt has an effect"
