"""ControlNet and picture prompt through static graphs, in one batch, with scales that change as the stream runs: against eager.

As in test_combinations.py, torch.compile stops before its code generator, which takes half a minute for each pass of a miniature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from torch import Tensor, nn
from torch.fx import GraphModule

from benchmarks import clips
from pipelines import Entry, Frame, Pixels, Settings, StreamPipeline, StreamSpec, load
from tests.miniature import ONE_CHUNK, fewer_layers, save_adapter, save_control, save_family
from tests.streams import PICTURES, SIZE, close, decoded, shown

CLIP = clips.clip("handheld", SIZE, SIZE)
FAMILY = {"openvino": "sd15", "compile": "sdxl"}
SCALES = (0.0, 0.5, 1.0)
HELD = 2  # frames for which a scale holds: one that fills the cache, one that is made from it
FAST = Settings().patched(
    {"prompt": "ink", "strength": 0.6, "steps": 2, "cache.enabled": True, "cache.interval": HELD, "cache.branch": 0}
)

Answer = tuple[str, Tensor, Pixels]
"""Verdict, latent [C, h, w] and picture."""


COMPILED: list[GraphModule] = []
"""All that torch.compile has handed over to be compiled."""


def counted(module: GraphModule, example: Sequence[Tensor]) -> Callable[..., object]:
    COMPILED.append(module)
    return module.forward


def pipeline_of(model: str, backend: str, cache: Path | None = None) -> StreamPipeline:
    made = load(StreamSpec(model, SIZE, SIZE, backend, "float32"), cache)
    made.prepare(FAST.patched({"stream_batch.enabled": False}))  # the graphs of one row, of which every batch can be laid
    return made


@pytest.fixture(scope="module", params=FAMILY)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, graph_cache: Path
) -> tuple[StreamPipeline, StreamPipeline]:
    """(eager, static) of one model with a ControlNet and an adapter for picture prompts."""
    folder, family = tmp_path_factory.mktemp("conditions"), FAMILY[request.param]
    original = nn.Module.compile
    with pytest.MonkeyPatch.context() as patch:
        fewer_layers(patch, family)
        model = save_family(folder / "model", family, kl=False, tokens=ONE_CHUNK)
        control, adapter = save_control(folder / "control", family), save_adapter(folder / "adapter", family)
        name = f"{model}+control={control}+picture={adapter}"

        def captured(module: nn.Module, dynamic: bool) -> None:
            original(module, backend=counted, fullgraph=True, dynamic=dynamic)

        patch.setattr(nn.Module, "compile", captured)
        return pipeline_of(name, "eager"), pipeline_of(name, request.param, graph_cache)


def stream(pipeline: StreamPipeline, patch: dict[str, object]) -> list[list[Answer]]:
    """The answers of two sessions that share every step, each with its own picture; where one scale rises, the other falls."""
    states = [pipeline.open(FAST), pipeline.open(FAST)]
    for state, picture in zip(states, PICTURES, strict=False):
        state.set_picture(picture)
    answers: list[list[Answer]] = [[], []]
    wishes = [FAST, FAST]
    for index in range(HELD * len(SCALES) + FAST.steps):
        frame = None
        if index < HELD * len(SCALES):
            frame, scale = Frame(index, index / 25, CLIP[index]), SCALES[index // HELD]
            there, back = ({"control.scale": value, "picture.scale": 1.0 - value, **patch} for value in (scale, 1.0 - scale))
            wishes = [FAST.patched(there), FAST.patched(back)]
        with decoded(pipeline) as latents:
            step = pipeline.step([Entry(state, frame, wish) for state, wish in zip(states, wishes, strict=True)])
        for place, answer in enumerate(step):
            if answer.pixels is not None:
                answers[place].append((answer.verdict, latents[0][place], shown(answer)))
    return answers


def apart(got: list[list[Answer]], expected: list[list[Answer]]) -> float:
    """The largest difference of two latents, as a share of the largest number in the expected ones."""
    pairs = [(a[1], b[1]) for some, others in zip(got, expected, strict=True) for a, b in zip(some, others, strict=True)]
    return float(max((a - b).abs().max() for a, b in pairs) / max(b.abs().max() for _, b in pairs))


@pytest.mark.long
def test_live_scales_in_one_batch_draw_what_eager_draws(pair: tuple[StreamPipeline, StreamPipeline]) -> None:
    eager, static = pair
    before = len(COMPILED)
    expected, got = stream(eager, {}), stream(static, {})
    assert len(COMPILED) == before, "something was compiled while the stream ran"
    for mine, theirs in zip(got, expected, strict=True):
        assert len(mine) == len(theirs) == HELD * len(SCALES)
        assert [verdict for verdict, _, _ in mine] == [verdict for verdict, _, _ in theirs]
        assert {verdict for verdict, _, _ in mine} == {"generated", "cached"}
        assert all(close(a, b) for (_, _, a), (_, _, b) in zip(mine, theirs, strict=True))
    assert apart(got, expected) < 2e-3
    for name in ("control.scale", "picture.scale"):
        assert apart(stream(eager, {name: 0.0}), expected) > 0.1, f"{name} has no effect here"
