"""The feature cache's cascade inside the engine: whose turn it is, and its pictures against diffusers' UNet with hooks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines import Entry, Frame, Output, Settings, StreamPipeline, StreamSpec, load
from tests.pipelines.engine.test_engine_reuse import CLIP, SIZE, parts_called, pixels, same
from tests.streams import decoded

BRANCH = 2
CASCADE = {"cache.enabled": True, "cache.branch": BRANCH, "cache.interval": 6, "cache.cascade": True, "strength": 0.8}
CHANNELS = 32  # of every skip of the miniature


@pytest.fixture(scope="module")
def pipeline(mini_model: Path) -> StreamPipeline:
    made = load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))
    for cascade in (True, False):
        made.prepare(Settings().patched({**CASCADE, "cache.cascade": cascade}))
    made.prepare(Settings().patched({**CASCADE, "cache.pattern": "ds"}))
    return made


def frames(count: int) -> list[Frame]:
    """Moving, but never so far from the first that it counts as a cut."""
    return [Frame(index, index / 25, CLIP[place]) for index, place in enumerate((0, 7, 14, 20, 12, 5, 15)[:count])]


def stream(pipeline: StreamPipeline, settings: Settings, count: int) -> list[Output]:
    state = pipeline.open(settings)
    answers = [pipeline.step([Entry(state, frame, settings)])[0] for frame in frames(count)]
    while state.in_flight:
        answers += pipeline.step([Entry(state, None, settings)])
    return [answer for answer in answers if answer.pixels is not None]


@contextmanager
def entering(unet: torch.nn.Module, branch: int, kept: dict[int, Tensor], take: bool) -> Iterator[None]:
    """What enters an up layer from below is exchanged for `kept[branch]`, or kept there."""

    def exchange(_: object, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        below = inputs[0].shape[1] - CHANNELS
        if take:
            return torch.cat([kept[branch], inputs[0][:, below:]], dim=1), *inputs[1:]
        kept[branch] = inputs[0][:, :below].clone()
        return None

    resnets = [resnet for block in unet.up_blocks for resnet in block.resnets]
    hook = resnets[-1 - branch].register_forward_pre_hook(exchange)
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
@pytest.mark.parametrize(("pattern", "order"), [("", "dsdsd"), ("dsssd", "dsssd"), ("dssds", "dssds")])
def test_a_cascade_equals_diffusers_unet_with_its_features_exchanged_by_hand(
    pipeline: StreamPipeline, pattern: str, order: str
) -> None:
    settings = Settings().patched({**CASCADE, "prompt": "ink", "cache.pattern": pattern})
    parts, plan = pipeline.graphs.parts, pipeline.schedule
    embedding, noise = parts.encode_prompt("ink")[0][None], pipeline.open(settings).noise.level(0)
    t = round(0.8 * 999)
    kept: dict[int, Tensor] = {}
    expected = []
    for index, frame in enumerate(frames(6)):
        x0 = parts.vae.encode(torch.from_numpy(frame.pixels).permute(2, 0, 1)[None] / 127.5 - 1).latents
        x = plan.signal[t] * x0 + plan.sigma[t] * noise
        outer = index > 0 and order[index - 1] == "s"  # further out
        with (
            entering(parts.unet, BRANCH - outer, kept, take=index > 0),
            entering(parts.unet, BRANCH - 1, kept, take=False) if index > 0 and not outer else entering(parts.unet, 0, {}, False),
        ):
            eps = parts.unet(x, t, encoder_hidden_states=embedding).sample
        expected.append((x - plan.sigma[t] * eps) / plan.signal[t])
    with decoded(pipeline) as latents:
        answers = stream(pipeline, settings, 6)
    assert [answer.verdict for answer in answers] == ["generated", *["cached"] * 5]
    torch.testing.assert_close(latents, expected, rtol=1e-3, atol=1e-4)
    with decoded(pipeline) as plain:
        stream(pipeline, settings.patched({"cache.cascade": False, "cache.pattern": ""}), 6)
    told_apart = [not torch.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(latents, plain, strict=True)]
    others = [place for place, differs in enumerate(told_apart, -1) if differs]
    assert others and all(order[place] == "s" for place in others), "a relay is as good as the usual short pass"


def test_whose_turn_it_is_starts_again_with_a_full_pass_or_a_live_change(
    pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, settings = parts_called(pipeline, monkeypatch), Settings().patched({**CASCADE, "cache.interval": 4})
    stream(pipeline, settings, 6)
    assert [part for part, _ in seen] == ["full", "relay", "shallow", "relay", "full", "relay"]
    seen.clear()
    state = pipeline.open(settings)
    changes = [{}, {}, {"cache.cascade": False}, {"cache.cascade": True}, {}, {"prompt": "fox"}, {}]
    for frame, change in zip(frames(7), changes, strict=True):
        settings = settings.patched({**change, "cache.interval": 30})
        pipeline.step([Entry(state, frame, settings)])
    assert [part for part, _ in seen] == ["full", "relay", "shallow", "relay", "shallow", "full", "relay"]


def test_every_row_and_level_of_every_session_takes_its_own_turns(
    pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    guided = {**CASCADE, "steps": 2, "guidance_mode": "full", "guidance": 1.7, "negative": "dull"}
    chosen = [Settings().patched(patch) for patch in (guided, CASCADE, {**CASCADE, "cache.interval": 3})]
    for settings in chosen:
        pipeline.prepare(settings, len(chosen))
    alone = [[pixels(answer) for answer in stream(pipeline, settings, 6)] for settings in chosen]
    states = [pipeline.open(settings) for settings in chosen]
    together: list[list[object]] = [[] for _ in chosen]
    seen = parts_called(pipeline, monkeypatch)
    for frame in [*frames(6), None]:
        entries = [Entry(state, frame, settings) for state, settings in zip(states, chosen, strict=True)]
        for place, answer in enumerate(pipeline.step(entries)):
            if answer.pixels is not None:
                together[place].append(pixels(answer))
    assert max(rows for part, rows in seen if part == "relay") >= 4, "rows of several sessions in one call"
    for mine, theirs in zip(alone, together, strict=True):
        assert len(mine) == len(theirs) == 6 and all(same(a, b) for a, b in zip(mine, theirs, strict=True))


def test_a_step_that_fails_after_a_relay_leaves_a_stream_that_goes_on(
    pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, source = Settings().patched(CASCADE), frames(4)
    expected = [pixels(answer) for answer in stream(pipeline, settings, 4)]
    state = pipeline.open(settings)
    made = [pipeline.step([Entry(state, frame, settings)])[0] for frame in source[:2]]
    with monkeypatch.context() as broken:
        broken.setattr(pipeline._step, "_decode", lambda frames: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pipeline.step([Entry(state, source[2], settings)])
    made += [pipeline.step([Entry(state, frame, settings)])[0] for frame in source[2:]]
    assert [answer.verdict for answer in made] == ["generated", *["cached"] * 3]
    assert [same(pixels(answer), picture) for answer, picture in zip(made[:2], expected[:2], strict=True)] == [True, True]
