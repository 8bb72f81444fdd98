"""Guidance inside the engine against plain loops over the same network, on a miniature checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import clips
from pipelines import Entry, Frame, Pixels, Settings, StreamPipeline, StreamSpec, load

SIZE = 128
CLIP = clips.clip("handheld", SIZE, SIZE)
OTHER = clips.clip("stars", SIZE, SIZE)
SCALE = 1.6


@pytest.fixture(scope="module")
def pipeline(mini_model: Path) -> StreamPipeline:
    return load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))


def settings_for(mode: str, steps: int = 1, **more: object) -> Settings:
    patch = {"guidance_mode": mode, "guidance": SCALE, "steps": steps, "strength": 0.6, "prompt": "ink", "negative": "dull"}
    return Settings().patched({**patch, "stream_batch.enabled": False, **more})


class Plain:
    """The streaming loop of one frame as equations, with nothing of the engine but its network, noise and schedule."""

    def __init__(self, pipeline: StreamPipeline, settings: Settings) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.noise = pipeline.open(settings).noise
        self.times = pipeline.schedule.timesteps(settings.strength, settings.steps)
        self.negatives = 0

    def encode(self, pixels: Pixels) -> Tensor:
        return self.pipeline.graphs.run("encode", (torch.from_numpy(pixels.copy())[None],))[0][0]

    def decode(self, x0: Tensor) -> NDArray[np.uint8]:
        return self.pipeline.graphs.run("decode", (x0[None],))[0][0].numpy()

    def start(self, z: Tensor, level: int) -> Tensor:
        a, s = self.pipeline.schedule.signal[self.times[level]], self.pipeline.schedule.sigma[self.times[level]]
        return a * z + s * self.noise.level(level)

    def clean(self, x: Tensor, level: int, prompt: str) -> Tensor:
        """x̂₀ of an epsilon model."""
        self.negatives += 1
        schedule, t = self.pipeline.schedule, self.times[level]
        embedding = self.pipeline.conditioner.prompts(prompt).encoded[0]
        modulation = self.pipeline.graphs.run("modulate", (torch.tensor([t]), embedding[None]))[0]
        eps = self.pipeline.graphs.run("full", (x[None], modulation, embedding[None]))[0][0]
        assert schedule.prediction == "epsilon"
        return (x - schedule.sigma[t] * eps) / schedule.signal[t]


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("mode", ["full", "self", "one-time"])
@torch.inference_mode()
def test_guided_pictures_follow_the_equations(pipeline: StreamPipeline, mode: str, steps: int) -> None:
    """x̂₀ = u + γ(x̂₀_c − u); u is the negative row's word (full), what the row was noised from (self), and that plus what the
    first level's negative row added (one-time)."""
    settings = settings_for(mode, steps)
    plain = Plain(pipeline, settings)
    anchor, beyond = plain.encode(CLIP[0]), torch.zeros(())
    for level in range(steps):
        x = plain.start(anchor, level)
        conditional = plain.clean(x, level, "ink")
        if mode == "full":
            u = plain.clean(x, level, "dull")
        else:
            if mode == "one-time" and level == 0:
                beyond = plain.clean(x, level, "dull") - anchor
            u = anchor + beyond
        anchor = u + SCALE * (conditional - u)
    state = pipeline.open(settings)
    (output,) = pipeline.step([Entry(state, Frame(0, 0.0, CLIP[0]), settings)])
    assert output.pixels is not None
    assert np.abs(output.pixels.numpy().astype(int) - plain.decode(anchor)).max() <= 1


@torch.inference_mode()
def test_adaptive_guidance_carries_the_residual_to_the_next_frame(pipeline: StreamPipeline) -> None:
    settings = settings_for("adaptive", guidance_alike=0.5)
    plain = Plain(pipeline, settings)
    first, second = plain.encode(CLIP[0]), plain.encode(CLIP[1])
    x = plain.start(first, 0)
    beyond = plain.clean(x, 0, "dull") - first
    u = second + beyond
    expected = u + SCALE * (plain.clean(plain.start(second, 0), 0, "ink") - u)
    state = pipeline.open(settings)
    outputs = [pipeline.step([Entry(state, Frame(index, 0.0, CLIP[index]), settings)])[0] for index in range(2)]
    assert outputs[1].pixels is not None
    assert np.abs(outputs[1].pixels.numpy().astype(int) - plain.decode(expected)).max() <= 1


@torch.inference_mode()
def test_linear_guidance_estimates_later_levels_by_least_squares(pipeline: StreamPipeline) -> None:
    """Frame 0 computes every negative row. Frame 1 computes that of the first level; those of levels 1 and 2 are the sums of
    predictions whose numbers fit frame 0 best, by a solver of its own."""
    settings = settings_for("linear", 3)
    plain, samples = Plain(pipeline, settings), {}
    for picture in (CLIP[0], CLIP[9]):
        anchor, c, u = plain.encode(picture), [], []
        for level in range(3):
            x = plain.start(anchor, level)
            c.append(plain.clean(x, level, "ink"))
            design = torch.stack([*c, *u[:1]]).flatten(1).double().T
            if level not in samples:
                u.append(plain.clean(x, level, "dull"))
                samples[level] = (design, u[-1].flatten().double())
            elif level == 0:
                u.append(plain.clean(x, level, "dull"))
            else:
                numbers = torch.linalg.lstsq(*(value.unsqueeze(-1) if value.ndim == 1 else value for value in samples[level]))[0]
                u.append((design @ numbers)[:, 0].float().view_as(x))
            anchor = u[-1] + SCALE * (c[-1] - u[-1])
    state = pipeline.open(settings)
    outputs = [pipeline.step([Entry(state, Frame(index, 0.0, CLIP[9 * index]), settings)])[0] for index in range(2)]
    assert outputs[1].pixels is not None
    assert np.abs(outputs[1].pixels.numpy().astype(int) - plain.decode(anchor)).max() <= 2


@pytest.mark.parametrize("mode", ["full", "self", "one-time"])
@torch.inference_mode()
def test_guidance_acts_in_its_interval_and_its_rows_are_computed_there(
    pipeline: StreamPipeline, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of levels at 0.6, 0.4 and 0.2 the last two are inside; the first takes the conditional prediction."""
    settings = settings_for(mode, 3, guidance_schedule="interval", interval_low=0.1, interval_high=0.45)
    plain = Plain(pipeline, settings)
    assert [0.1 < t / 999 <= 0.45 for t in plain.times] == [False, True, True]
    anchor, beyond = plain.encode(CLIP[0]), None
    for level in range(3):
        x = plain.start(anchor, level)
        conditional = plain.clean(x, level, "ink")
        if level == 0:
            anchor = conditional
            continue
        if mode == "full" or (mode == "one-time" and beyond is None):
            u = plain.clean(x, level, "dull")
            beyond = u - anchor
        else:
            u = anchor if mode == "self" else anchor + beyond
        anchor = u + SCALE * (conditional - u)
    expected = {"full": 2, "self": 0, "one-time": 1}[mode]
    assert negative_rows(pipeline, [(CLIP[0], settings)], monkeypatch) == [expected]
    monkeypatch.undo()
    (output,) = pipeline.step([Entry(pipeline.open(settings), Frame(0, 0.0, CLIP[0]), settings)])
    assert output.pixels is not None
    assert np.abs(output.pixels.numpy().astype(int) - plain.decode(anchor)).max() <= 1


def test_linear_guidance_computes_all_rows_in_every_eighth_frame_and_after_a_change(
    pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for("linear", 3)
    rows = negative_rows(pipeline, [(CLIP[0], settings)] * 19, monkeypatch)
    assert rows == [3, 1, 1, 1, 1, 2, 1, 2, *[1] * 6, 2, 1, 2, 1, 1]
    monkeypatch.undo()
    changed = settings.patched({"prompt": "oil"})
    assert negative_rows(pipeline, [(CLIP[0], settings)] * 2 + [(CLIP[0], changed)] * 2, monkeypatch) == [3, 1, 3, 1]


def negative_rows(pipeline: StreamPipeline, frames: list[tuple[Pixels, Settings]], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many negative rows each frame of a stream took."""
    taken: list[int] = []
    original = pipeline.graphs.run

    def counted(part: str, inputs: tuple[Tensor, ...], branch: int | None = None, chunks: int = 1) -> tuple[Tensor, ...]:
        taken[-1] += inputs[0].shape[0] if part == "full" else 0
        return original(part, inputs, branch, chunks)

    monkeypatch.setattr(pipeline.graphs, "run", counted)
    state = pipeline.open(frames[0][1])
    for index, (pixels, settings) in enumerate(frames):
        taken.append(-settings.steps)
        pipeline.step([Entry(state, Frame(index, 0.0, pixels), settings)])
    return taken


def test_adaptive_guidance_computes_the_negative_every_eighth_frame(
    pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for("adaptive", guidance_alike=0.5)
    assert negative_rows(pipeline, [(CLIP[0], settings)] * 19, monkeypatch) == [1, *[0] * 8, 1, *[0] * 8, 1]


def test_levels_take_turns_in_asking(pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for("adaptive", 3, guidance_alike=0.5)
    assert negative_rows(pipeline, [(CLIP[0], settings)] * 19, monkeypatch)[:10] == [3, 0, 0, 0, 0, 1, 0, 1, 0, 1]


def test_adaptive_guidance_computes_the_negative_after_a_change(
    pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for("adaptive", guidance_alike=0.5)
    for change in ({"prompt": "oil"}, {"negative": "pale"}, {"seed": 4}, {"strength": 0.7}, {"blend": 0.5, "prompt_b": "oil"}):
        changed = settings.patched(change)
        frames = [(CLIP[0], settings), (CLIP[0], settings), (CLIP[0], changed), (CLIP[0], changed)]
        assert negative_rows(pipeline, frames, monkeypatch) == [1, 0, 1, 0], change
        monkeypatch.undo()


def test_adaptive_guidance_computes_the_negative_after_a_cut(pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for("adaptive", guidance_alike=0.5)
    frames = [(CLIP[0], settings), (CLIP[0], settings), (OTHER[0], settings), (OTHER[0], settings)]
    assert negative_rows(pipeline, frames, monkeypatch) == [1, 0, 1, 0]


def test_a_threshold_that_is_not_met_keeps_the_row(pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for("adaptive", guidance_alike=1.0, guidance=10.0)
    frames = [(CLIP[20 * index], settings) for index in range(6)]
    assert negative_rows(pipeline, frames, monkeypatch) == [1] * 6
