"""Sizes above the native one in the engine: which levels take which pass, in eager and in OpenVINO."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines import Entry, Frame, Pixels, Settings, StreamPipeline, StreamSpec, load
from pipelines.engine.rows import HALVED
from pipelines.techniques.feature_cache import PLAIN, Kind
from pipelines.values.types import SpecError
from tests.miniature import ONE_CHUNK, UNETS, save_family
from tests.streams import PICTURES, SIZE, decoded, frames

FOUR = Settings().patched({"prompt": "ink", "strength": 0.8, "steps": 4, "stream_batch.enabled": False})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A miniature of SD 1.5 whose native size is half of SIZE."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(UNETS, "sd15", {**UNETS["sd15"], "layers_per_block": 1, "sample_size": SIZE // 16})
        return str(save_family(tmp_path_factory.mktemp("hires") / "model", "sd15", kl=False, tokens=ONE_CHUNK))


@pytest.fixture(scope="module")
def full(model: str) -> StreamPipeline:
    return of(model, "full")


def of(model: str, mode: str, backend: str = "eager", cache: Path | None = None) -> StreamPipeline:
    return load(StreamSpec(model, SIZE, SIZE, backend, "float32", hires=mode), cache)


def drawn(pipeline: StreamPipeline, settings: Settings, prepared: bool = True) -> tuple[list[Kind], Tensor, Pixels]:
    """The passes of the first frame's levels, its latent, and the second frame's picture."""
    if prepared:
        pipeline.prepare(settings)
    state = pipeline.open(settings)
    with decoded(pipeline) as latents:
        first, second = frames(2)
        pipeline.step([Entry(state, first, settings)])
        kinds = [kind for (kind, _), _ in pipeline.work if kind[0] not in ("encode", "decode")]
        (answer,) = pipeline.step([Entry(state, second, settings)])
    assert answer.pixels is not None
    return kinds, latents[0][0], answer.pixels.numpy()


def test_the_first_share_of_the_levels_is_halved(full: StreamPipeline) -> None:
    for share, count in ((0.0, 0), (0.5, 2), (0.7, 2), (1.0, 4)):
        assert drawn(full, FOUR.patched({"hires.share": share}))[0] == [HALVED] * count + [PLAIN] * (4 - count)


def test_without_a_share_full_is_attention_bit_by_bit(model: str, full: StreamPipeline) -> None:
    _, without, _ = drawn(full, FOUR.patched({"hires.share": 0.0}))
    _, attention, _ = drawn(of(model, "attention"), FOUR)
    _, halved, _ = drawn(full, FOUR)
    _, off, _ = drawn(of(model, "off"), FOUR)
    assert torch.equal(without, attention)
    for other in (halved, off):
        assert not torch.allclose(attention, other, atol=1e-3)


def test_openvino_draws_the_same(model: str, full: StreamPipeline, graph_cache: Path) -> None:
    kinds, expected, _ = drawn(full, FOUR)
    static = of(model, "full", "openvino", graph_cache)
    for key in static.graphs_for(FOUR):
        if key.rows == 1:
            static.graphs.build(key)
    found, latent, _ = drawn(static, FOUR, prepared=False)
    assert found == kinds and HALVED in kinds
    torch.testing.assert_close(latent, expected, rtol=2e-2, atol=2e-2)  # weights are in half precision


def test_until_the_graph_is_ready_levels_take_the_plain_pass(model: str) -> None:
    pipeline = of(model, "full")
    assert drawn(pipeline, FOUR, prepared=False)[0] == [PLAIN] * 4
    assert drawn(pipeline, FOUR)[0] == [HALVED] * 2 + [PLAIN] * 2


@pytest.mark.parametrize("reuse", ["steps", "frames"])
def test_no_features_of_halved_levels_are_kept(full: StreamPipeline, reuse: str) -> None:
    settings = FOUR.patched({"cache.enabled": True, "cache.reuse": reuse, "cache.branch": 0, "cache.interval": 4})
    first, *_ = drawn(full, settings)
    whole = ("full", 0)
    assert first == [HALVED] * 2 + [whole, ("shallow", 0) if reuse == "steps" else whole]


def test_a_stream_batch_holds_both_passes(full: StreamPipeline) -> None:
    batch, alone = FOUR.patched({"stream_batch.enabled": True}), FOUR
    latents: list[list[Tensor]] = []
    for settings in (batch, alone):
        full.prepare(settings)
        state = full.open(settings)
        with decoded(full) as seen:
            for index in range(5):
                full.step([Entry(state, Frame(index, index / 25, PICTURES[index]), settings)])
        latents.append([row for rows in seen for row in rows])
    torch.testing.assert_close(latents[0][0], latents[1][0], rtol=1e-4, atol=1e-4)


def test_the_forecast_knows_the_passes(full: StreamPipeline) -> None:
    full.prepare(FOUR)
    demand = full.demand(None, frames(1)[0], FOUR)
    assert [kind for (kind, _), _ in demand if kind[0] not in ("encode", "decode")] == [HALVED] * 2 + [PLAIN] * 2


def test_a_share_that_is_no_step_is_reported(model: str, full: StreamPipeline) -> None:
    one = FOUR.patched({"steps": 1})
    assert full.understood(one).idle == {"hires.share": "it waits: this share of 1 step is less than one step"}
    assert full.understood(FOUR).idle == {} and of(model, "off").understood(one).idle == {}


def test_a_model_offers_what_fits_its_unet(model: Path) -> None:
    def offered(name: str) -> tuple[str, ...]:
        return load(StreamSpec(name, 128, 128, "eager", "float32"), warm=False).hires_choices

    assert offered(str(model)) == ("off", "attention", "full") and offered("pocket") == ("off",)


def test_pocket_is_refused_by_name_of_the_field() -> None:
    with pytest.raises(SpecError, match="hires: full does not fit this UNet, which has no self-attention in its two outermost"):
        load(StreamSpec(width=1024, height=1024, hires="full"), warm=False)
