"""Every family of published checkpoints, in miniature, through the whole engine: against diffusers' networks and pipelines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from pipelines import Entry, Frame, ModelParts, Pixels, Settings, StreamPipeline, StreamSpec, describe, load
from pipelines.networks.unet import guidance_embedding
from tests.by_hand import drawn, epsilon, pipe_of, plain, velocity
from tests.miniature import EMBEDDING, ONE_CHUNK, POOLED, SECOND, TOKENS, UNETS, fewer_layers, save_family
from tests.streams import SIZE, close, frames, pictures, reference, shown, stream

ACCELERATED = ("sd15", "sd21", "sdxl")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {family: save_family(root / family, family, prediction_type=PREDICTIONS.get(family, "epsilon")) for family in UNETS}


PREDICTIONS = {"sd21": "v_prediction"}


@pytest.fixture(scope="module")
def pipelines(folders: dict[str, Path]) -> dict[str, StreamPipeline]:
    return {family: load(spec(folder)) for family, folder in folders.items()}


def spec(folder: Path, backend: str = "eager") -> StreamSpec:
    return StreamSpec(str(folder), SIZE, SIZE, backend, "float32")


def by_hand(folder: Path, family: str, settings: Settings, frame: Frame) -> Pixels:
    """Text by diffusers' encode_prompt, networks by their own forward."""
    assert frame.pixels is not None
    pipe = pipe_of(folder, family)
    network = plain(pipe, settings.prompt, SIZE)
    if family == "lcm":
        w = torch.tensor([0.0 if settings.guidance_mode == "full" else settings.guidance - 1])
        network = plain(pipe, settings.prompt, SIZE, timestep_cond=guidance_embedding(w, 16))
    noise = load(spec(folder)).open(settings).noise
    return drawn(pipe, network, settings, frame.pixels, noise, velocity if family in PREDICTIONS else epsilon)


@pytest.mark.parametrize("guidance", ["none", "full"])
@pytest.mark.parametrize("family", UNETS)
def test_a_stream_equals_diffusers_own_parts(
    folders: dict[str, Path], pipelines: dict[str, StreamPipeline], family: str, guidance: str
) -> None:
    settings = Settings().patched({"prompt": "ink", "steps": 2, "strength": 0.6, "guidance_mode": guidance, "guidance": 2.0})
    source = frames(3)
    for batched in (True, False):
        got = pictures(stream(pipelines[family], settings.patched({"stream_batch.enabled": batched}), source))
        assert list(got) == [0, 1, 2]
        assert close(got[1], by_hand(folders[family], family, settings, source[1]))


@pytest.mark.parametrize("family", ACCELERATED)
@pytest.mark.parametrize("mode", ["full", "self", "one-time", "adaptive"])
def test_every_guidance_mode_works_in_the_stream_batch(pipelines: dict[str, StreamPipeline], family: str, mode: str) -> None:
    plain = Settings().patched({"steps": 3, "prompt": "ink"})
    guided = plain.patched({"guidance_mode": mode, "guidance": 4.0, "negative": "blur", "guidance_alike": 1.0})
    source = frames(3)
    batched = pictures(stream(pipelines[family], guided, source))
    sequential = pictures(stream(pipelines[family], guided.patched({"stream_batch.enabled": False}), source))
    unguided = pictures(stream(pipelines[family], plain, source))
    for number in (0, 1, 2):
        assert close(batched[number], sequential[number])
        assert not close(batched[number], unguided[number], 0)


@pytest.mark.parametrize("family", [*ACCELERATED, "lcm"])
def test_the_feature_cache_reuses_and_is_exact_where_nothing_moves(pipelines: dict[str, StreamPipeline], family: str) -> None:
    pipeline = pipelines[family]
    plain = Settings().patched({"steps": 2, "prompt": "ink", "guidance_mode": "full"})
    cached = plain.patched({"cache.enabled": True, "cache.interval": 3, "cache.branch": 1})
    source = frames(6, still=True)
    answers = stream(pipeline, cached, source)
    assert {"cached", "generated"} == {answer.verdict for answer in answers}
    expected = pictures(stream(pipeline, plain, source))
    for number, picture in pictures(answers).items():
        assert close(picture, expected[number])


def test_cached_features_of_an_lcm_die_when_its_guidance_changes(pipelines: dict[str, StreamPipeline]) -> None:
    pipeline = pipelines["lcm"]
    settings = Settings().patched({"cache.enabled": True, "cache.interval": 9, "guidance": 2.0})
    pipeline.prepare(settings)
    state, verdicts = pipeline.open(settings), []
    for frame in frames(4, still=True):
        now = settings.patched({"guidance": 6.0}) if frame.id >= 2 else settings
        verdicts.append(pipeline.step([Entry(state, frame, now)])[0].verdict)
    assert verdicts == ["generated", "cached", "generated", "cached"]


@pytest.mark.parametrize("family", ACCELERATED)
def test_the_strength_map_keeps_what_it_covers(pipelines: dict[str, StreamPipeline], family: str) -> None:
    pipeline = pipelines[family]
    settings = Settings().patched({"steps": 2, "strength": 0.8, "strength_map.mode": "mask"})
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
    source = frames(1)
    (kept,) = pictures(stream(pipeline, settings, source, mask=mask)).values()
    vae = pipeline.graphs.run("encode", (torch.from_numpy(source[0].pixels)[None],))
    assert close(kept, pipeline.graphs.run("decode", vae)[0][0].numpy())
    (full,) = pictures(stream(pipeline, settings, source, mask=mask + 255)).values()
    (plain,) = pictures(stream(pipeline, settings.patched({"strength_map.mode": "off"}), source)).values()
    assert close(full, plain) and not close(kept, plain, 10)


@pytest.mark.parametrize("family", ACCELERATED)
def test_the_probe_sees_no_loss_where_nothing_is_accelerated(pipelines: dict[str, StreamPipeline], family: str) -> None:
    settings = Settings().patched(
        {"steps": 2, "guidance_mode": "full", "probe.enabled": True, "probe.every": 1, "probe.share": 0.9}
    )
    answers = stream(pipelines[family], settings, frames(6))
    probed = [answer for answer in answers if answer.reference is not None]
    assert probed
    for answer in probed:
        assert close(shown(answer), reference(answer))


def test_sessions_of_different_prompts_share_a_call_of_sdxl(pipelines: dict[str, StreamPipeline]) -> None:
    pipeline, source = pipelines["sdxl"], frames(1)
    wishes = [Settings().patched({"prompt": prompt}) for prompt in ("ink", "oil", "chalk")]
    alone = [next(iter(pictures(stream(pipeline, wish, source)).values())) for wish in wishes]
    together = pipeline.step([Entry(pipeline.open(wish), source[0], wish) for wish in wishes])
    for answer, expected in zip(together, alone, strict=True):
        assert close(shown(answer), expected)
    assert not close(alone[0], alone[1], 0)


def test_what_a_family_takes_is_read_from_its_configuration(folders: dict[str, Path]) -> None:
    sdxl, lcm, sd15 = (ModelParts(describe(str(folders[family]))) for family in ("sdxl", "lcm", "sd15"))
    assert (sdxl.added_sizes, lcm.added_sizes, sd15.added_sizes) == ((POOLED, 6), (16,), ())
    assert sdxl.embedding_shape == (TOKENS, EMBEDDING + SECOND)
    assert sdxl.time_ids(256, 128).tolist() == [128, 256, 0, 0, 128, 256] and sd15.time_ids(256, 128) is None
    assert sdxl.empty_is_zero and not sd15.empty_is_zero


def test_guidance_inside_an_lcm_changes_the_picture_at_no_row(pipelines: dict[str, StreamPipeline]) -> None:
    settings = Settings().patched({"guidance": 1.0})
    (low,) = pictures(stream(pipelines["lcm"], settings, frames(1))).values()
    (high,) = pictures(stream(pipelines["lcm"], settings.patched({"guidance": 8.0}), frames(1))).values()
    assert not close(low, high, 0)
    (same,) = pictures(stream(pipelines["sd15"], settings.patched({"guidance": 8.0}), frames(1))).values()
    (other,) = pictures(stream(pipelines["sd15"], settings, frames(1))).values()
    assert close(same, other, 0)


@pytest.mark.long
@pytest.mark.parametrize("family, reuse", [("sdxl", True), ("lcm", False)])
def test_openvino_agrees_with_eager(
    tmp_path: Path, graph_cache: Path, monkeypatch: pytest.MonkeyPatch, family: str, reuse: bool
) -> None:
    fewer_layers(monkeypatch, family)
    folder = save_family(tmp_path / family, family, tokens=ONE_CHUNK)
    settings = Settings().patched({"prompt": "ink", "cache.enabled": reuse, "guidance": 3.0})
    fast = load(spec(folder, "openvino"), graph_cache)
    fast.prepare(settings)
    source = frames(3, still=True)
    got, expected = stream(fast, settings, source), stream(load(spec(folder)), settings, source)
    assert [answer.verdict for answer in got].count("cached") == 2 * reuse
    for one, other in zip(pictures(got).values(), pictures(expected).values(), strict=True):
        assert close(one, other, 3)


def test_a_half_precision_checkpoint_is_kept_as_it_is(tmp_path: Path) -> None:
    folder = save_family(tmp_path / "half", "sd15", dtype=torch.float16, variant="fp16")
    parts = ModelParts(describe(str(folder)))
    assert {value.dtype for value in parts.unet.parameters()} == {torch.float16}
    theirs = UNet2DConditionModel.from_pretrained(folder / "unet", variant="fp16", torch_dtype=torch.float16).state_dict()
    for name, value in parts.unet.state_dict().items():
        assert torch.equal(value, theirs[name])
    assert stream(load(spec(folder)), Settings(), frames(1))[0].pixels is not None
