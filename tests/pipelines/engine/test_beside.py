"""UNets that take a mask or a picture beside their latent, against diffusers' own pipelines with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from pipelines import Entry, Frame, Mask, ModelParts, Settings, StreamPipeline, StreamSpec, describe, inspect_model, load
from pipelines.checkpoints.loader import single
from tests import ldm
from tests.by_hand import encoded, pipe_of
from tests.ldm import write_single_file
from tests.miniature import ONE_CHUNK, UNETS, fewer_layers, save_control, save_family
from tests.streams import PICTURES, SIZE

CHANNELS = {"mask": 9, "source": 8}
PIPES: dict[tuple[str, str], Any] = {
    ("sd15", "mask"): StableDiffusionInpaintPipeline,
    ("sdxl", "mask"): StableDiffusionXLInpaintPipeline,
    ("sd15", "source"): StableDiffusionInstructPix2PixPipeline,
    ("sdxl", "source"): StableDiffusionXLInstructPix2PixPipeline,
}
MASK = np.zeros((SIZE, SIZE), np.uint8)
MASK[30:101, 13:67] = 255  # no whole cells of a latent
MASK[:40, 90:] = np.arange(SIZE - 90) * 6  # grey: what is at least half white counts


def save_beside(folder: Path, family: str, kind: str, seed: int = 0, tokens: int | None = None) -> Path:
    """A family whose UNet has more input channels, with an autoencoder that draws no random numbers."""
    save_family(folder, family, seed=seed, tokens=tokens)
    torch.manual_seed(seed + 3)
    UNet2DConditionModel(**{**UNETS[family], "in_channels": CHANNELS[kind]}).save_pretrained(folder / "unet")
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    vae.quant_conv.weight.data[4:] = 0.0
    vae.quant_conv.bias.data[4:] = -30.0
    vae.save_pretrained(folder / "vae")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    root = tmp_path_factory.mktemp("beside")
    return {key: save_beside(root / "-".join(key), *key) for key in PIPES}


def opened(folder: Path | str, backend: str = "eager", cache: Path | None = None) -> StreamPipeline:
    return load(StreamSpec(str(folder), SIZE, SIZE, backend, "float32"), cache)


def ours(pipeline: StreamPipeline, settings: Settings, mask: Mask | None = None, index: int = 0) -> tuple[Tensor, Tensor]:
    """(the noise, the finished latent) of one frame, [1, C, h, w] each."""
    pipeline.prepare(settings)
    state = pipeline.open(settings)
    state.set_mask(mask)
    pipeline.step([Entry(state, Frame(0, 0.0, PICTURES[index]), settings)])
    assert state.previous_x0 is not None
    return state.noise.level(0)[None], state.previous_x0[None]


def theirs(folder: Path, family: str, kind: str, settings: Settings, noise: Tensor, mask: Mask | None, index: int = 0) -> Tensor:
    """The latent that diffusers' pipeline makes in one step from the same start."""
    plain = pipe_of(folder, family)
    pipe = PIPES[family, kind].from_pipe(plain)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(
        plain.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True, clip_sample=False
    )
    bar = pipe.scheduler.alphas_cumprod[999]
    with torch.no_grad():
        start = bar**0.5 * encoded(pipe.vae, PICTURES[index]) + (1 - bar) ** 0.5 * noise
    options: dict[str, Any] = {"image": Image.fromarray(PICTURES[index]), "latents": start, "num_inference_steps": 1}
    options["guidance_scale"] = settings.guidance if settings.guidance_mode == "full" else 1.0
    if kind == "mask":
        drawn = np.full((SIZE, SIZE), 255, np.uint8) if mask is None else mask
        options |= {"mask_image": Image.fromarray(drawn), "strength": 1.0}
    else:
        options["image_guidance_scale"] = 1.0
    if kind == "mask" or family == "sdxl":
        options |= {"height": SIZE, "width": SIZE}
    made: Tensor = pipe(settings.prompt, output_type="latent", **options).images
    return made


BASE = Settings().patched({"prompt": "ink", "strength": 1.0, "guidance": 2.0})


@pytest.mark.parametrize("guidance", ["none", "full"])
@pytest.mark.parametrize("key", PIPES, ids="-".join)
def test_latents_are_those_of_diffusers(folders: dict[tuple[str, str], Path], key: tuple[str, str], guidance: str) -> None:
    settings = BASE.patched({"guidance_mode": guidance})
    pipeline = opened(folders[key])
    seen = []
    for mask in (MASK, None) if key[1] == "mask" else (None,):
        noise, got = ours(pipeline, settings, mask)
        torch.testing.assert_close(got, theirs(folders[key], *key, settings, noise, mask), rtol=1e-4, atol=1e-4)
        seen.append(got)
    assert len(seen) == 1 or (seen[0] - seen[1]).abs().max() > 1e-2, "the mask has an effect"


@pytest.mark.parametrize("key", [("sd15", "mask"), ("sd15", "source")], ids="-".join)
def test_single_files_and_unets_alone(
    folders: dict[tuple[str, str], Path], key: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, base = folders[key], save_family(tmp_path / "base", "sd15")
    monkeypatch.setitem(single.LAYOUTS, "sd15", base)
    whole = write_single_file(folder, tmp_path / "whole.safetensors", "sd15")
    unet = tmp_path / "unet.safetensors"
    save_file({name: value.contiguous() for name, value in ldm.unet(folder / "unet").items()}, unet)
    wanted = ModelParts(describe(str(folder))).unet.state_dict()
    for name in (str(whole), f"{base}+unet={unet}", f"{base}+unet={folder / 'unet'}"):
        report = inspect_model(name)
        assert report.problem is None and ("InstructPix2Pix" in report.facts["beside"]) == (key[1] == "source")
        parts = ModelParts(describe(name))
        assert parts.beside == key[1]
        for tensor, value in parts.unet.state_dict().items():
            assert torch.equal(value, wanted[tensor])


def test_frames_with_and_without_a_mask_share_a_step(folders: dict[tuple[str, str], Path]) -> None:
    pipeline = opened(folders["sd15", "mask"])
    states = [pipeline.open(BASE) for _ in range(3)]
    masks = [MASK, None, MASK[::-1].copy()]
    for state, mask in zip(states, masks, strict=True):
        state.set_mask(mask)
    pipeline.step([Entry(state, Frame(0, 0.0, PICTURES[n]), BASE) for n, state in enumerate(states)])
    for index, (state, mask) in enumerate(zip(states, masks, strict=True)):
        assert state.previous_x0 is not None
        torch.testing.assert_close(state.previous_x0[None], ours(pipeline, BASE, mask, index)[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", CHANNELS)
def test_from_a_prompt_alone_there_is_no_picture(folders: dict[tuple[str, str], Path], kind: str) -> None:
    """As diffusers' UNet with a whole mask over a grey picture, or with zeros."""
    pipeline, pipe = opened(folders["sd15", kind]), pipe_of(folders["sd15", kind], "sd15")
    state = pipeline.open(BASE)
    pipeline.step([Entry(state, Frame(0, 0.0, None), BASE)])
    noise = state.noise.level(0)[None]
    with torch.no_grad():
        grey = (
            pipe.vae.encode(torch.zeros(1, SIZE, SIZE, 3).permute(0, 3, 1, 2)).latent_dist.mode() * pipe.vae.config.scaling_factor
        )
        beside = torch.cat([torch.ones_like(noise[:, :1]), grey], dim=1) if kind == "mask" else torch.zeros_like(noise)
        text = pipe.encode_prompt("ink", "cpu", 1, False)[0]
        output = pipe.unet(torch.cat([noise, beside], dim=1), 999, encoder_hidden_states=text).sample
        bar = pipe.scheduler.alphas_cumprod[999]
        expected = (noise - (1 - bar) ** 0.5 * output) / bar**0.5
    assert state.previous_x0 is not None
    torch.testing.assert_close(state.previous_x0[None], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", CHANNELS)
def test_caches_and_controlnets_work_beside(folders: dict[tuple[str, str], Path], kind: str, tmp_path: Path) -> None:
    control = save_control(tmp_path / "control", "sd15")
    plain = opened(folders["sd15", kind])
    steered = opened(f"{folders['sd15', kind]}+control={control}")
    cached = BASE.patched({"cache.enabled": True, "cache.interval": 3, "strength": 0.6, "control.scale": 0.0})
    for pipeline in (plain, steered):
        pipeline.prepare(cached)
        state = pipeline.open(cached)
        state.set_mask(MASK)
        made = []
        for number in range(3):
            (answer,) = pipeline.step([Entry(state, Frame(number, number / 25, PICTURES[0]), cached)])
            made.append((answer.verdict, state.previous_x0))
        assert [verdict for verdict, _ in made] == ["generated", "cached", "cached"]
        for _, latent in made:
            torch.testing.assert_close(latent, made[0][1], rtol=1e-4, atol=1e-4)
    on, off = (ours(steered, BASE.patched({"control.scale": scale}), MASK)[1] for scale in (1.0, 0.0))
    assert (on - off).abs().max() > 1e-2


@pytest.mark.long
@pytest.mark.parametrize("kind", CHANNELS)
def test_static_graphs_agree_with_eager(tmp_path: Path, graph_cache: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    fewer_layers(monkeypatch, "sd15")
    folder = save_beside(tmp_path / "model", "sd15", kind, tokens=ONE_CHUNK)
    got = ours(opened(folder, "openvino", graph_cache), BASE, MASK)[1]
    expected = ours(opened(folder), BASE, MASK)[1]
    assert (got - expected).abs().max() < 2e-3 * expected.abs().max()


def test_cosxl_s_edit_model_takes_a_scaled_picture(folders: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    folder = save_beside(tmp_path / "cosxl", "sdxl", "source")
    assert ModelParts(describe(str(folder))).source_scale == pytest.approx(1 / 0.13025)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "is_cosxl_edit": True}))
    assert ModelParts(describe(str(folder))).source_scale == 1.0


@pytest.mark.parametrize(("channels", "words"), [(5, "a depth model"), (7, "an upscaler"), (12, "another kind of model")])
def test_other_channels_are_refused_by_name(tmp_path: Path, channels: int, words: str) -> None:
    folder = save_family(tmp_path / "x", "sd15")
    UNet2DConditionModel(**{**UNETS["sd15"], "in_channels": channels}).save_pretrained(folder / "unet")
    problem = inspect_model(str(folder)).problem or ""
    assert f"takes {channels} channels and makes 4; it is {words}" in problem
