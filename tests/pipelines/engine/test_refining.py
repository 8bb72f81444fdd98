"""A refined picture: the one that the same number of live steps draws, level by level, without an effect on the session."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines import Entry, Frame, Settings, StreamPipeline, StreamSpec, StreamState, load
from tests.streams import PICTURES, SIZE, close, decoded, frames, shown

ON = {"prompt": "ink", "seed": 5, "refine.enabled": True}


@pytest.fixture(scope="module")
def pipeline(mini_model: Path) -> StreamPipeline:
    return load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))


def drawn(pipeline: StreamPipeline, settings: Settings, count: int = 2, moved: bool = True) -> tuple[StreamState, list[Tensor]]:
    """A session after so many frames, and the latents of its pictures."""
    pipeline.prepare(settings)
    state = pipeline.open(settings)
    if settings.strength_map.mode == "mask":
        state.set_mask(np.arange(256, dtype=np.uint8).repeat(256).reshape(256, 256))
    with decoded(pipeline) as seen:
        for frame in frames(count) if moved else [Frame(index, index / 25, None) for index in range(count)]:
            pipeline.step([Entry(state, frame, settings)])
        while state.in_flight:
            pipeline.step([Entry(state, None, settings)])
    return state, [row for batch in seen for row in batch]


def refined(pipeline: StreamPipeline, state: StreamState, settings: Settings, shows: bool = True) -> list[Tensor]:
    """The latents of a refinement's pictures."""
    refinement = pipeline.refinement(state, settings)
    assert refinement is not None
    with decoded(pipeline) as seen:
        while not refinement.over:
            pipeline.refine(refinement, shows)
    return [row for batch in seen for row in batch]


CASES: Mapping[str, Mapping[str, object]] = {
    "one step": {},
    "two steps in a stream batch": {"steps": 2},
    "from the prompt alone": {"noise.variety": 0.5},
    "reused features": {"cache.enabled": True, "cache.interval": 5, "cache.branch": 0},
    "full guidance": {"guidance_mode": "full", "guidance": 3.0, "negative": "blur"},
    "one negative row": {"guidance_mode": "one-time", "guidance": 3.0, "negative": "blur"},
    "residual guidance": {"guidance_mode": "self", "guidance": 3.0},
    "linear guidance": {"guidance_mode": "linear", "guidance": 3.0, "negative": "blur", "steps": 3},
    "guidance over the levels": {"guidance_mode": "full", "guidance": 3.0, "guidance_schedule": "linear"},
    "noise on the prompt": {"cads.enabled": True},
    "a painted mask": {"strength_map.mode": "mask"},
    "granularity": {"omega": 0.7},
    "a first-order solver": {"solver": "ddim"},
    "a second-order solver": {"solver": "dpmpp-2m"},
}


@pytest.mark.parametrize("case", CASES)
def test_the_refined_picture_is_that_of_four_live_steps(pipeline: StreamPipeline, case: str) -> None:
    settings = Settings().patched({**ON, **CASES[case]})
    plain: dict[str, object] = {"steps": 4, "stream_batch.enabled": False, "cache.enabled": False}
    if settings.guidance_mode == "linear":
        plain["guidance_mode"] = "full"
    pixels = case not in ("from the prompt alone", "noise on the prompt")
    state, before = drawn(pipeline, settings, moved=pixels)
    _, four = drawn(pipeline, settings.patched(plain), moved=pixels)
    found = refined(pipeline, state, settings)
    assert not torch.allclose(before[-1], four[-1], atol=1e-3), "the case shows nothing"
    torch.testing.assert_close(found[-1], four[-1], atol=2e-5, rtol=1e-4)


def test_each_level_is_the_plain_loop_from_the_shown_picture_on(pipeline: StreamPipeline) -> None:
    settings = Settings().patched(ON)
    state, before = drawn(pipeline, settings)
    parts, plan = pipeline.graphs.parts, pipeline.schedule
    text, noise = parts.encode_prompt("ink")[0][None], pipeline.open(settings).noise
    expected, x0 = [], before[-1]
    for level, t in enumerate(plan.timesteps(0.5, 4)[1:], 1):
        x = plan.signal[t] * x0 + plan.sigma[t] * noise.level(level)
        with torch.no_grad():
            eps = parts.unet(x[None], t, text).sample[0]
        x0 = (x - plan.sigma[t] * eps) / plan.signal[t]
        expected.append(x0)
    found = refined(pipeline, state, settings)
    assert len(found) == 3, "the first level is the shown picture's"
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_only_the_end_is_decoded_where_no_picture_is_wanted_between(pipeline: StreamPipeline) -> None:
    settings = Settings().patched(ON)
    state, _ = drawn(pipeline, settings)
    every, last = refined(pipeline, state, settings), refined(pipeline, state, settings, shows=False)
    assert (len(every), len(last)) == (3, 1) and torch.equal(every[-1], last[-1])


@pytest.mark.parametrize("case", ["one step", "reused features", "two steps in a stream batch"])
def test_the_frames_that_follow_are_those_without_a_refinement(pipeline: StreamPipeline, case: str) -> None:
    settings = Settings().patched({**ON, "noise.warm_start": 0.5, **CASES[case]})
    (one, _), (other, _) = drawn(pipeline, settings), drawn(pipeline, settings)
    refinement = pipeline.refinement(one, settings)
    assert refinement is not None
    pipeline.refine(refinement)  # it is left here, unfinished
    for index in (2, 3, 4):
        frame = Frame(index, index / 25, PICTURES[index])
        with_it, without = (pipeline.step([Entry(state, frame, settings)])[0] for state in (one, other))
        assert with_it.verdict == without.verdict
        if with_it.pixels is not None:
            assert close(shown(with_it), shown(without), 0)


NOTHING: Mapping[str, Mapping[str, object]] = {
    "it is off": {"refine.enabled": False},
    "all steps are live": {"steps": 4},
    "the noise walks": {"noise.mode": "walk"},
}


@pytest.mark.parametrize("why", NOTHING)
def test_nothing_is_refined_where(pipeline: StreamPipeline, why: str) -> None:
    settings = Settings().patched({**ON, **NOTHING[why]})
    state, _ = drawn(pipeline, settings)
    assert pipeline.refinement(state, settings) is None


def test_a_picture_is_refined_only_once_its_prompt_has_arrived(pipeline: StreamPipeline) -> None:
    settings = Settings().patched({**ON, "travel": 1.0})
    state, _ = drawn(pipeline, settings)
    changed = settings.patched({"prompt": "oil painting"})
    for seconds, changing in ((2.0, True), (2.5, True), (4.0, False)):
        output = pipeline.step([Entry(state, Frame(int(100 * seconds), seconds, PICTURES[2]), changed)])[0]
        assert output.changing is changing
        assert (pipeline.refinement(state, changed) is None) is changing


def test_a_stream_of_fewer_steps_bounds_the_refinement(mini_model: Path) -> None:
    short = load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32", max_steps=2))
    settings = Settings().patched(ON)
    state, _ = drawn(short, settings)
    assert len(refined(short, state, settings)) == 1
