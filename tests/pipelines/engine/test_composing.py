"""Composed prompts inside the engine: against plain loops over the same network, and beside every other technique."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import Entry, Frame, Settings, StreamPipeline, StreamSpec, load
from pipelines.techniques.regions import Part, shares
from tests.pipelines.engine.test_engine_guidance import Plain
from tests.pipelines.engine.test_painted import LOOKS, add_painter
from tests.streams import PICTURES, SIZE, alike, close, decoded, frames, pictures, shown, stream

REGIONS = "left: ink | upper third: a red fox | rest: snow"
BASE = {"steps": 2, "strength": 0.6, "stream_batch.enabled": False}


@pytest.fixture(scope="module")
def pipeline(mini_model: Path) -> StreamPipeline:
    return load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))


@pytest.fixture(scope="module")
def painting(mini_model: Path, tmp_path_factory: pytest.TempPathFactory) -> StreamPipeline:
    folder = tmp_path_factory.mktemp("composed") / "model"
    shutil.copytree(mini_model, folder)
    add_painter(folder, LOOKS)
    return load(StreamSpec(str(folder), SIZE, SIZE, "eager", "float32"))


def of(**changes: object) -> Settings:
    return Settings().patched({**BASE, **{key.replace("__", "."): value for key, value in changes.items()}})


@pytest.mark.parametrize("mode", ["none", "full", "self"])
@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        (REGIONS, [Part("ink", "left"), Part("a red fox", "upper third"), Part("snow", "rest")]),
        ("ink :0.7 | a red fox :0.3", [Part("ink", None, 0.7), Part("a red fox", None, 0.3)]),
    ],
)
@torch.inference_mode()
def test_each_level_is_the_mean_of_the_predictions_for_all_prompts(
    pipeline: StreamPipeline, prompt: str, parts: list[Part], mode: str
) -> None:
    settings = of(prompt=prompt, negative="dull", guidance_mode=mode, guidance=1.6)
    plain = Plain(pipeline, settings)
    anchor = plain.encode(PICTURES[0])
    weights = shares(parts, *anchor.shape[1:])
    for level in range(2):
        x = plain.start(anchor, level)
        conditional = sum(w * plain.clean(x, level, part.text) for w, part in zip(weights, parts, strict=True))
        u = {"full": lambda x=x, level=level: plain.clean(x, level, "dull"), "self": lambda anchor=anchor: anchor}.get(mode)
        negative = conditional if u is None else u()
        anchor = negative + 1.6 * (conditional - negative)
    (output,) = pipeline.step([Entry(pipeline.open(settings), Frame(0, 0.0, PICTURES[0]), settings)])
    assert close(shown(output), plain.decode(anchor))


def test_where_one_region_is_all_the_picture_is_that_of_its_prompt(pipeline: StreamPipeline) -> None:
    settings = of(prompt="painted: ink | rest: a red fox")
    for mask, prompt in ((np.full((8, 8), 255, np.uint8), "ink"), (np.zeros((8, 8), np.uint8), "a red fox"), (None, "a red fox")):
        got = stream(pipeline, settings, frames(2), mask=mask)
        assert alike(got, stream(pipeline, of(prompt=prompt), frames(2)))


def test_a_change_of_the_mask_moves_the_regions_at_the_next_frame(pipeline: StreamPipeline) -> None:
    settings = of(prompt="painted: ink | rest: a red fox", cache__enabled=True, steps=1)
    pipeline.prepare(settings)
    state = pipeline.open(settings)
    for number, (white, prompt) in enumerate([(0, "a red fox"), (255, "ink"), (0, "a red fox")]):
        state.set_mask(np.full((8, 8), white, np.uint8))
        (output,) = pipeline.step([Entry(state, Frame(number, 0.0, PICTURES[0]), settings)])
        (expected,) = stream(pipeline, of(prompt=prompt, steps=1), frames(1))
        assert output.verdict == "generated" and close(shown(output), shown(expected))


@pytest.mark.parametrize(
    "changes",
    [
        {"cache__enabled": True, "cache__interval": 3},
        {"cache__enabled": True, "cache__reuse": "steps", "steps": 3},
        {"cache__enabled": True, "cache__reuse": "encoder", "steps": 3, "stream_batch__enabled": True},
        {"stream_batch__enabled": True, "steps": 3},
        {"guidance_mode": "adaptive", "guidance_alike": 0.5},
        {"guidance_mode": "linear", "steps": 3},
        {"prompt_b": "dull", "blend": 0.4},
        {"strength_map__mode": "motion", "omega": 0.8},
        {"travel": 2.0},
        {"consistency__enabled": True},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_parts_of_one_text_draw_what_the_text_draws_beside_every_technique(
    pipeline: StreamPipeline, changes: dict[str, object]
) -> None:
    """Two regions with different words for one meaning would be two rows; "ink" and "(ink:1.0)" are those here."""
    one, two = of(prompt="ink", **changes), of(prompt="left: ink | right: (ink:1.0)", **changes)
    assert pipeline.conditioner.count(two, pipeline.open(two).names) == 2
    with decoded(pipeline) as expected:
        stream(pipeline, one, frames(5, still=True))
    with decoded(pipeline) as got:
        stream(pipeline, two, frames(5, still=True))
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)


def test_sessions_with_and_without_regions_share_a_step(pipeline: StreamPipeline) -> None:
    composed, plain = of(prompt=REGIONS), of(prompt="a red fox", guidance_mode="full")
    expected = [stream(pipeline, settings, frames(3)) for settings in (composed, plain)]
    states, answers = [pipeline.open(composed), pipeline.open(plain)], ([], [])
    for frame in frames(3):
        step = pipeline.step([Entry(states[0], frame, composed), Entry(states[1], frame, plain)])
        for place, output in enumerate(step):
            answers[place].append(output)
    assert all(alike(got, theirs) for got, theirs in zip(answers, expected, strict=True))


def test_a_prompt_in_two_lengths_and_a_live_change_of_their_number(pipeline: StreamPipeline) -> None:
    long = ", ".join(f"word{number}" for number in range(60))
    settings = [of(prompt="ink"), of(prompt=f"left: {long} BREAK more | right: ink"), of(prompt=REGIONS), of(prompt="ink")]
    for one in settings:
        pipeline.prepare(one)
    state = pipeline.open(settings[0])
    for number, one in enumerate(settings):
        (output,) = pipeline.step([Entry(state, Frame(number, 0.0, PICTURES[0]), one)])
        (expected,) = stream(pipeline, one, frames(1))
        assert close(shown(output), shown(expected)), one.prompt


@pytest.mark.parametrize("changes", [{}, {"guidance_mode": "full"}, {"steps": 3, "stream_batch__enabled": True}])
def test_the_forecast_counts_every_row(pipeline: StreamPipeline, changes: dict[str, object]) -> None:
    settings, state = of(prompt=REGIONS, **changes), None
    pipeline.prepare(settings)
    for frame in frames(4):
        expected = pipeline.demand(state, frame, settings)
        state = pipeline.open(settings) if state is None else state
        pipeline.step([Entry(state, frame, settings)])
        assert +expected == +pipeline.work


def test_what_is_no_composed_prompt_takes_one_row(pipeline: StreamPipeline) -> None:
    for prompt in ("a | b", "sky: ink | person: snow", "x: y", "left: ink"):
        assert pipeline.conditioner.count(of(prompt=prompt), pipeline.open(of()).names) == 1
    both = of(prompt=REGIONS, prompt_b="ink", blend=1.0)
    assert alike(stream(pipeline, both, frames(1)), stream(pipeline, of(prompt="ink"), frames(1))), "prompt_b alone"


def test_looks_share_the_picture_below_and_are_painted_in_their_regions(painting: StreamPipeline) -> None:
    """Both looks are painted over one picture, so the UNet has one row. The picture is that of each look, by its share."""
    settings = of(prompt="left: ink wash | right: blue swirl")
    with decoded(painting) as _:
        (got,) = stream(painting, settings, frames(1))
    assert painting.conditioner.count(settings, painting.open(settings).names) == 1
    one, other = (shown(stream(painting, of(prompt=prompt), frames(1))[0]).astype(float) for prompt in LOOKS)
    assert list(LOOKS) == ["ink wash", "blue swirl"]
    left, right = shares([Part("", "left"), Part("", "right")], SIZE, SIZE)[:, 0, :, :, None].numpy()
    assert close(shown(got), np.clip(left * one + right * other, 0, 255).round().astype(np.uint8))
    assert not close(shown(got), one.astype(np.uint8), 8) and not close(shown(got), other.astype(np.uint8), 8)


def test_a_region_without_paint_shows_the_picture_below(painting: StreamPipeline) -> None:
    (got,) = stream(painting, of(prompt="top: ink wash | bottom: snow"), frames(1))
    (plain,) = stream(painting, of(prompt="top: ink wash | bottom: snow", style__amount=0.0), frames(1))
    painted, below = shown(got), shown(plain)
    assert close(painted[-SIZE // 4 :], below[-SIZE // 4 :]) and not close(painted[: SIZE // 4], below[: SIZE // 4], 8)


def test_weighted_looks_mix_their_styles(painting: StreamPipeline) -> None:
    settings = of(prompt="ink wash :3 | blue swirl :1")
    state = painting.open(settings)
    made = painting.conditioner(state, None, settings)
    expected = [painting.conditioner(state, None, of(prompt=prompt)).style for prompt in LOOKS]
    assert made.style is not None and made.layers == () and all(expected)
    torch.testing.assert_close(made.style.numbers, 0.75 * expected[0].numbers + 0.25 * expected[1].numbers)


def test_pictures_of_several_sessions_are_put_together_each_with_its_own(painting: StreamPipeline) -> None:
    wishes = [of(prompt="ink wash"), of(prompt="left: ink wash | right: blue swirl"), of(prompt="snow")]
    expected = [pictures(stream(painting, one, frames(1)))[0] for one in wishes]
    step = painting.step([Entry(painting.open(one), frames(1)[0], one) for one in wishes])
    assert all(close(shown(got), theirs) for got, theirs in zip(step, expected, strict=True))
