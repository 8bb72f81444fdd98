"""Reuse between the steps of one frame, inside the engine: against diffusers' own blocks called by hand, and what ends it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks import clips
from pipelines import Entry, Frame, Output, Pixels, Settings, StreamPipeline, StreamSpec, load
from pipelines.engine.rows import AssumedKeys, RowPlanner

SIZE = 128
CLIP = clips.clip("handheld", SIZE, SIZE)
STEPS = {"cache.enabled": True, "cache.reuse": "steps"}
ENCODER = {"cache.enabled": True, "cache.reuse": "encoder"}


@pytest.fixture(scope="module")
def pipeline(mini_model) -> StreamPipeline:
    made = load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))
    for patch in (STEPS, {**STEPS, "cache.branch": 0}, ENCODER, {"cache.enabled": True}):
        made.prepare(Settings().patched(patch))
    return made


def frames(count: int) -> list[Frame]:
    return [Frame(index, index / 25, CLIP[7 * index]) for index in range(count)]


def stream(pipeline: StreamPipeline, settings: Settings, count: int = 3) -> list[Output]:
    state = pipeline.open(settings)
    answers = [pipeline.step([Entry(state, frame, settings)])[0] for frame in frames(count)]
    while state.in_flight:
        answers += pipeline.step([Entry(state, None, settings)])
    return [answer for answer in answers if answer.pixels is not None]


def pixels(output: Output) -> Pixels:
    assert output.pixels is not None
    return output.pixels.numpy()


class Network:
    """diffusers' UNet with the reuse of features written out, as far as the miniature goes: no mid-block or text extras."""

    def __init__(self, pipeline: StreamPipeline, reuse: str, branch: int, interval: int) -> None:
        self.unet = pipeline.graphs.parts.unet
        self.reuse, self.branch, self.interval = reuse, branch, interval
        self.plan = pipeline.graphs.parts.schedule
        self.kept: tuple[Tensor, ...] = ()
        self.seen: tuple[Tensor, int] | None = None

    def __call__(self, x: Tensor, t: int, embedding: Tensor, level: int) -> Tensor:
        """x̂₀ of an epsilon model; the decoder's output for an older latent is that one's noise."""
        key = level % self.interval == 0
        if key or self.reuse != "encoder":
            self.seen = (x, t)
        eps = (self.encoder if self.reuse == "encoder" else self.deep)(x, t, embedding, key)
        assert self.seen is not None
        x, t = self.seen
        return (x - self.plan.sigma[t] * eps) / self.plan.signal[t]

    def deep(self, x: Tensor, t: int, embedding: Tensor, key: bool) -> Tensor:
        """The whole UNet, but what enters the chosen up layer from below is exchanged for what entered it at the key level."""
        layers = [resnet for block in self.unet.up_blocks for resnet in block.resnets]

        def exchange(_: object, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            below = inputs[0].shape[1] - channels
            if key:
                self.kept = (inputs[0][:, :below].clone(),)
            return torch.cat([self.kept[0], inputs[0][:, below:]], dim=1), *inputs[1:]

        channels = 32  # of every skip of the miniature
        hook = layers[-1 - self.branch].register_forward_pre_hook(exchange)
        try:
            return self.unet(x, t, encoder_hidden_states=embedding).sample
        finally:
            hook.remove()

    def encoder(self, x: Tensor, t: int, embedding: Tensor, key: bool) -> Tensor:
        unet = self.unet
        temb = unet.time_embedding(unet.time_proj(torch.tensor([t])))
        if key:
            h = unet.conv_in(x)
            skips = [h]
            for block in unet.down_blocks:
                attends = {"encoder_hidden_states": embedding} if getattr(block, "has_cross_attention", False) else {}
                h, found = block(hidden_states=h, temb=temb, **attends)
                skips += found
            h = unet.mid_block(h, temb, encoder_hidden_states=embedding)
            self.kept = (h, *skips)
        h, *skips = self.kept
        for block in unet.up_blocks:
            count = len(block.resnets)
            attends = {"encoder_hidden_states": embedding} if getattr(block, "has_cross_attention", False) else {}
            h = block(hidden_states=h, res_hidden_states_tuple=tuple(skips[-count:]), temb=temb, **attends)
            skips = skips[:-count]
        return unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))


@torch.no_grad()
def by_hand(pipeline: StreamPipeline, settings: Settings, frame: Frame) -> Pixels:
    """Sequential denoising of one frame, ordinary full guidance, each row with a network of its own."""
    parts, cache = pipeline.graphs.parts, settings.cache
    assert frame.pixels is not None
    x0 = parts.vae.encode(torch.from_numpy(frame.pixels).permute(2, 0, 1)[None] / 127.5 - 1).latents
    own, other = (Network(pipeline, cache.reuse, cache.branch, cache.interval) for _ in range(2))
    noise = pipeline.open(settings).noise
    for level in range(settings.steps):
        t = round(round(settings.strength * 999) * (settings.steps - level) / settings.steps)
        a, s = parts.schedule.signal[t], parts.schedule.sigma[t]
        x = a * x0 + s * noise.level(level)
        x0 = own(x, t, parts.encode_prompt(settings.prompt)[0][None], level)
        if settings.guidance_mode == "full":
            x0_u = other(x, t, parts.encode_prompt(settings.negative)[0][None], level)
            x0 = x0_u + settings.guidance * (x0 - x0_u)
    picture = parts.vae.decode(x0).sample[0]
    return ((picture + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0).to(torch.uint8).numpy()


def same(a: Pixels, b: Pixels) -> bool:
    return int(abs(a.astype(int) - b).max()) <= 1


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        {**ENCODER, "steps": 2},
        {**ENCODER, "steps": 4, "cache.interval": 2},
        {**ENCODER, "steps": 3, "guidance_mode": "full", "guidance": 1.7, "negative": "dull"},
        {**STEPS, "steps": 2, "cache.branch": 0},
        {**STEPS, "steps": 4, "cache.interval": 2, "cache.branch": 0},
        {**STEPS, "steps": 4, "guidance_mode": "full", "guidance": 1.7, "negative": "dull"},
    ],
)
def test_reuse_between_steps_equals_diffusers_blocks_called_by_hand(
    pipeline: StreamPipeline, change: dict[str, object], batched: bool
) -> None:
    settings = Settings().patched({"prompt": "ink", "strength": 0.8, "stream_batch.enabled": batched, **change})
    answers = stream(pipeline, settings)
    assert [answer.verdict for answer in answers] == ["cached"] * 3
    plain = stream(pipeline, settings.patched({"cache.enabled": False}))
    for answer, other, frame in zip(answers, plain, frames(3), strict=True):
        assert same(pixels(answer), by_hand(pipeline, settings, frame))
        assert not same(pixels(answer), pixels(other)), "the two ways must differ in this test"


@pytest.mark.parametrize("reuse", [STEPS, ENCODER])
def test_one_step_or_an_interval_of_one_has_nothing_to_reuse(pipeline: StreamPipeline, reuse: dict[str, object]) -> None:
    for change in ({"steps": 1}, {"steps": 3, "cache.interval": 1}):
        settings = Settings().patched({**reuse, **change})
        answers, plain = stream(pipeline, settings), stream(pipeline, settings.patched({"cache.enabled": False}))
        assert [answer.verdict for answer in answers] == ["generated"] * 3
        assert all(same(pixels(a), pixels(b)) for a, b in zip(answers, plain, strict=True))


def parts_called(pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(part, rows) of every UNet call from now on."""
    seen: list[tuple[str, int]] = []
    original = pipeline.graphs.run

    def run(part: str, inputs: tuple[Tensor, ...], branch: int | None = None, chunks: int = 1) -> tuple[Tensor, ...]:
        if part not in ("encode", "decode", "modulate"):
            seen.append((part, inputs[0].shape[0]))
        return original(part, inputs, branch, chunks)

    monkeypatch.setattr(pipeline.graphs, "run", run)
    return seen


def test_which_levels_take_which_pass(pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = parts_called(pipeline, monkeypatch)
    settings = Settings().patched({**ENCODER, "steps": 4, "stream_batch.enabled": False})
    stream(pipeline, settings, 1)
    assert seen == [("encoder", 1), ("decoder", 1), ("decoder", 1), ("full", 1)], (
        "the last full pass keeps features for no later level"
    )
    seen.clear()
    stream(pipeline, settings.patched({"cache.interval": 2}), 1)
    assert seen == [("encoder", 1), ("decoder", 1)] * 2
    seen.clear()
    stream(pipeline, settings.patched({"cache.reuse": "steps", "cache.interval": 4, "guidance_mode": "full"}), 1)
    assert seen == [("full", 2), *[("shallow", 2)] * 3]


@pytest.mark.parametrize("reuse", [STEPS, ENCODER])
@pytest.mark.parametrize("change", [{"prompt": "fox"}, {"seed": 3}, {"strength": 0.7}, {"guidance_mode": "full"}, {"omega": 1.1}])
def test_a_change_on_the_way_ends_what_a_frame_has_kept(
    pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch, reuse: dict[str, object], change: dict[str, object]
) -> None:
    settings = Settings().patched({**reuse, "steps": 3})
    state = pipeline.open(settings)
    pipeline.step([Entry(state, frames(1)[0], settings)])
    seen = parts_called(pipeline, monkeypatch)
    settings = settings.patched(change)
    pipeline.step([Entry(state, None, settings)])
    assert {part for part, _ in seen} <= {"full", "encoder"}
    seen.clear()
    pipeline.step([Entry(state, None, settings)])
    assert ("decoder" if reuse is ENCODER else "shallow") in {part for part, _ in seen}


def test_a_negative_row_that_stayed_away_brings_nothing_stale_back(pipeline: StreamPipeline) -> None:
    """The features of a row are used for fewer than `interval` levels, whichever levels the row was there for."""
    settings = Settings().patched({**ENCODER, "steps": 4, "cache.interval": 2, "guidance_mode": "full"})
    state = pipeline.open(settings)
    (frame,) = frames(1)
    pipeline.step([Entry(state, frame, settings)])
    item = state.ring.frames[0]
    item.level = 3
    item.kept = {False: replace(item.kept[False], level=2), True: item.kept[True]}  # at level 2 it was there for the own row only
    own, negative = RowPlanner(settings, state.cache, state.residuals, AssumedKeys(), True).rows([item])
    assert (own.kind[0], negative.kind[0]) == ("decoder", "full")


def test_sessions_of_every_kind_share_a_step(pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [
        {**ENCODER, "steps": 3, "prompt": "ink"},
        {**STEPS, "steps": 4},
        {"cache.enabled": True, "steps": 2},
        {"steps": 1},
        ENCODER,
    ]
    kinds[4] = {**ENCODER, "steps": 2, "guidance_mode": "full", "prompt": "fox"}
    chosen = [Settings().patched(kind) for kind in kinds]
    alone = [[pixels(answer) for answer in stream(pipeline, settings, 5)] for settings in chosen]
    states = [pipeline.open(settings) for settings in chosen]
    together: list[list[Pixels]] = [[] for _ in chosen]
    seen = parts_called(pipeline, monkeypatch)
    for frame in [*frames(5), None, None, None]:
        for place, answer in enumerate(
            pipeline.step([Entry(state, frame, settings) for state, settings in zip(states, chosen, strict=True)])
        ):
            if answer.pixels is not None:
                together[place].append(pixels(answer))
    assert {"encoder", "decoder", "full", "shallow"} <= {part for part, _ in seen}
    assert max(rows for part, rows in seen if part == "decoder") >= 3, "rows of several sessions in one call"
    for mine, theirs in zip(alone, together, strict=True):
        assert len(mine) == len(theirs) and all(same(a, b) for a, b in zip(mine, theirs, strict=True))


def test_without_its_graphs_the_encoder_waits_and_the_stream_goes_on(mini_model) -> None:
    pipeline = load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))
    settings = Settings().patched({**ENCODER, "steps": 2})
    assert [answer.verdict for answer in stream(pipeline, settings)] == ["generated"] * 3
