"""CADS inside the engine: what the UNet gets of the prompt at each level, and that seeds differ."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines import Entry, Frame, Pixels, Settings, StreamPipeline, StreamSpec, load
from pipelines.techniques import cads
from tests.streams import PICTURES, SIZE, shown

PATCH = {"prompt": "ink", "steps": 2, "cads.enabled": True, "cads.scale": 1.0, "stream_batch.enabled": False}


@pytest.fixture(scope="module")
def pipeline(mini_model: Path) -> StreamPipeline:
    return load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))


def embeddings(
    pipeline: StreamPipeline, settings: Settings, pixels: Pixels | None, monkeypatch: pytest.MonkeyPatch
) -> list[Tensor]:
    """What the UNet takes of the text, [rows, L, D] for each call of one frame."""
    taken: list[Tensor] = []
    original = pipeline.graphs.run

    def run(part: str, inputs: tuple[Tensor, ...], branch: int | None = None, chunks: int = 1) -> tuple[Tensor, ...]:
        if part == "full":
            taken.append(inputs[2])
        return original(part, inputs, branch, chunks)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.graphs, "run", run)
        pipeline.step([Entry(pipeline.open(settings), Frame(0, 0.0, pixels), settings)])
    return taken


def test_the_prompt_is_noised_by_the_level_and_the_negative_prompt_is_not(
    pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings().patched({**PATCH, "guidance_mode": "full", "negative": "dull", "seed": 4})
    y, negative = (pipeline.conditioner.prompts(words).encoded[0] for words in ("ink", "dull"))
    times = pipeline.schedule.timesteps(1.0, 2)
    for t, rows in zip(times, embeddings(pipeline, settings, None, monkeypatch), strict=True):
        gamma = cads.kept(t / 999, 0.6, 1.4)
        expected = cads.annealed(y, cads.noise(4, 0, tuple(y.shape)), gamma, 1.0, 1.0)
        torch.testing.assert_close(rows, torch.stack([expected, negative]))
    assert cads.kept(times[0] / 999, 0.6, 1.4) < 1.0 == cads.kept(times[1] / 999, 0.6, 1.4)


def test_with_a_source_picture_the_prompt_stays(pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    y = pipeline.conditioner.prompts("ink").encoded[0]
    settings = Settings().patched({**PATCH, "strength": 1.0})
    for rows in embeddings(pipeline, settings, PICTURES[0], monkeypatch):
        assert torch.equal(rows[0], y)


def test_one_seed_draws_one_picture(pipeline: StreamPipeline) -> None:
    drawn = []
    for seed in (1, 1, 2):
        settings = Settings().patched({**PATCH, "seed": seed})
        drawn.append(shown(pipeline.step([Entry(pipeline.open(settings), Frame(0, 0.0, None), settings)])[0]))
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
