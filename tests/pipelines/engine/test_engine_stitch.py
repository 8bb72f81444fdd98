"""T-Stitch in the engine, on two miniatures: against a plain loop over diffusers' UNets, and against one network alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from pipelines import Entry, Settings, StreamPipeline, StreamSpec, load
from pipelines.engine.rows import SMALL
from pipelines.graphs.keys import GraphKey
from pipelines.techniques.feature_cache import PLAIN, Kind
from pipelines.techniques.probe import reference
from pipelines.values.types import SpecError
from tests.miniature import BETAS, ONE_CHUNK, UNETS, save_control, save_family
from tests.streams import PICTURES, SIZE, decoded, frames

FOUR = Settings().patched({"prompt": "ink", "steps": 4, "solver": "ddim", "strength": 499 / 999, "stream_batch.enabled": False})
SMALLER = {"layers_per_block": 1, "block_out_channels": (16, 16), "norm_num_groups": 4}
Make = Callable[..., str]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Saves a miniature of SD 1.5 with another UNet, or of another family."""

    def made(name: str, family: str = "sd15", seed: int = 0, **changes: object) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(UNETS, family, {**UNETS[family], "layers_per_block": 1, **changes})
            folder = save_family(tmp_path_factory.mktemp(name) / name, family, seed=seed, kl=False, tokens=ONE_CHUNK, **BETAS)
        return str(folder)

    return made


@pytest.fixture(scope="module")
def large(make: Make) -> str:
    return make("large")


@pytest.fixture(scope="module")
def small(make: Make) -> str:
    return make("small", seed=1, **SMALLER)


@pytest.fixture(scope="module")
def pipeline(large: str, small: str) -> StreamPipeline:
    return of(large, small)


def of(model: str, stitch: str = "", backend: str = "eager", cache: Path | None = None) -> StreamPipeline:
    return load(StreamSpec(model, SIZE, SIZE, backend, "float32", stitch=stitch), cache)


def drawn(pipeline: StreamPipeline, settings: Settings, prepared: bool = True) -> tuple[list[Kind], Tensor]:
    """The passes of a frame's levels, and its latent [C, h, w]."""
    if prepared:
        pipeline.prepare(settings)
    state = pipeline.open(settings)
    with decoded(pipeline) as latents:
        pipeline.step([Entry(state, frames(1)[0], settings)])
    return [kind for (kind, _), _ in pipeline.work if kind[0] not in ("encode", "decode")], latents[0][0]


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.8])
def test_frames_end_where_a_plain_loop_over_both_unets_ends(pipeline: StreamPipeline, fraction: float) -> None:
    settings = FOUR.patched({"stitch.fraction": fraction})
    parts, plan = pipeline.graphs.parts, pipeline.schedule
    timesteps = plan.timesteps(settings.strength, 4, "ddim")
    text, noise = parts.encode_prompt("ink")[0][None], pipeline.open(settings).noise.level(0)
    scheduler = DDIMScheduler(**BETAS, timestep_spacing="trailing", clip_sample=False)
    scheduler.set_timesteps(8)
    assert parts.small is not None
    with torch.no_grad():
        clean = parts.vae.encode(torch.from_numpy(PICTURES[0]).permute(2, 0, 1)[None] / 127.5 - 1).latents
        x = plan.signal[timesteps[0]] * clean + plan.sigma[timesteps[0]] * noise
        for index, (t, theirs) in enumerate(zip(timesteps, scheduler.timesteps[-4:], strict=True)):
            unet = parts.small.unet if (index + 1) / 4 <= fraction else parts.unet
            x = scheduler.step(unet(x, t, encoder_hidden_states=text).sample, theirs, x).prev_sample
    _, found = drawn(pipeline, settings)
    assert (found - x[0]).abs().max() < 1e-4 * x.abs().max()


def test_at_both_ends_one_network_draws_alone_bit_by_bit(pipeline: StreamPipeline, large: str, small: str) -> None:
    for fraction, alone in ((0.0, large), (1.0, f"{large}+unet={small}/unet")):
        kinds, found = drawn(pipeline, FOUR.patched({"stitch.fraction": fraction}))
        _, expected = drawn(of(alone), FOUR)
        assert torch.equal(found, expected)
        assert kinds == [SMALL if fraction else PLAIN] * 4


def test_openvino_draws_the_same_and_both_networks_count_in_the_budget(
    pipeline: StreamPipeline, large: str, small: str, graph_cache: Path
) -> None:
    static = of(large, small, "openvino", graph_cache)
    plain = static.graphs.bytes
    for key in static.graphs_for(FOUR):
        if key.rows == 1:
            static.graphs.build(key)
    assert {GraphKey("small", 1), GraphKey("small-modulate", 1)} <= set(static.graphs_for(FOUR))
    assert static.graphs.bytes > plain
    kinds, found = drawn(static, FOUR, prepared=False)
    assert kinds == [SMALL] * 2 + [PLAIN] * 2
    torch.testing.assert_close(found, drawn(pipeline, FOUR)[1], rtol=2e-2, atol=2e-2)  # weights are in half precision


def test_until_its_graphs_are_ready_the_larger_network_draws(large: str, small: str) -> None:
    fresh = of(large, small)
    fresh.graphs.evict(GraphKey("small", 1))
    assert drawn(fresh, FOUR, prepared=False)[0] == [PLAIN] * 4


@pytest.mark.parametrize("reuse", ["steps", "frames"])
def test_no_features_cross_the_networks(pipeline: StreamPipeline, reuse: str) -> None:
    settings = FOUR.patched({"cache.enabled": True, "cache.reuse": reuse, "cache.branch": 0, "cache.interval": 4})
    full = ("full", 0)
    assert drawn(pipeline, settings)[0] == [SMALL] * 2 + [full, ("shallow", 0) if reuse == "steps" else full]


def test_graphs_on_disk_are_named_after_their_own_network(pipeline: StreamPipeline, large: str) -> None:
    graphs, parts = pipeline.graphs, pipeline.graphs.parts
    assert parts.small is not None
    assert parts.small.fingerprints.unet in graphs._name(GraphKey("small", 1)) != graphs._name(GraphKey("full", 1))
    assert graphs._name(GraphKey("full", 1)) == of(large).graphs._name(GraphKey("full", 1))


def test_the_probe_compares_with_the_larger_network(pipeline: StreamPipeline) -> None:
    assert drawn(pipeline, reference(FOUR))[0] == [PLAIN] * 4


def test_a_fraction_that_is_no_step_is_reported(pipeline: StreamPipeline) -> None:
    one = FOUR.patched({"steps": 1})
    assert pipeline.understood(one).idle == {"stitch.fraction": "it waits: this share of 1 step is less than one step"}
    assert pipeline.understood(FOUR).idle == {}


def test_what_differs_is_named(make: Make, large: str, tmp_path: Path) -> None:
    other = make("wide", cross_attention_dim=32, in_channels=9)
    with pytest.raises(SpecError, match="the number of channels of its latent is 9, not 4"):
        of(large, other)
    with pytest.raises(
        SpecError, match=r"stitch: the UNet of .* the width of its text is 80, not 32; .*what it takes beside the text is"
    ):
        of(large, make("xl", "sdxl"))
    config = Path(make("v")) / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"prediction_type": "v_prediction"}))
    with pytest.raises(SpecError, match="its prediction type is v_prediction, not epsilon"):
        of(large, str(config.parents[1]))
    with pytest.raises(SpecError, match="stitch: does not work with a ControlNet"):
        of(f"{make('two', layers_per_block=2)}+control={save_control(tmp_path / 'control', 'sd15')}", large)


def test_it_does_not_work_with_hires(large: str, small: str) -> None:
    with pytest.raises(SpecError, match="stitch: does not work with hires"):
        load(StreamSpec(large, SIZE, SIZE, "eager", "float32", hires="full", stitch=small))
    with pytest.raises(SpecError, match=r"stitch: .* is not the name of a model"):
        StreamSpec(stitch="a\nb")
