"""Every registered model by its name, its repositories replaced by miniatures in the same layout, against diffusers' parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines import REGISTRY, ModelInfo, Pixels, Settings, StreamPipeline, StreamSpec, describe, load
from pipelines.checkpoints.loader import model_files
from pipelines.networks.unet import guidance_embedding
from pipelines.values.models import Hub, Location
from tests import by_hand
from tests.by_hand import denoised, epsilon, pipe_of, plain, sample
from tests.miniature import UNETS, save_family, tiny_autoencoder
from tests.streams import SIZE, decoded, frames, stream

BASE = Settings().patched({"prompt": "ink", "strength": 0.6, "guidance": 8.0})
RANK = 2


@dataclass(frozen=True)
class Plan:
    """Timesteps at strength 0.6, with two steps where the model makes two; how an output is read; the timestep that the network
    gets; the setting `steps`, if fewer are made at this strength."""

    timesteps: tuple[int, ...] = (599, 300)
    clean: by_hand.Clean = epsilon
    network_timestep: Callable[[int], int] = lambda t: t
    steps: int | None = None


PLANS = {
    **dict.fromkeys(("sd-turbo", "sdxl-turbo", "sd15-lcm", "lcm-dreamshaper-v7", "hyper-sd15", "hyper-sdxl"), Plan()),
    "sdxs-512": Plan((999,)),
    "sdxl-lightning-1step": Plan((999,), sample),
    "sdxl-lightning-2step": Plan((499,), steps=2),  # as diffusers' img2img pipeline: of two steps, int(2 · 0.6)
    "sdxl-lightning-4step": Plan((499, 249)),
    "sdxl-lightning-4step-lora": Plan((499, 249)),
    "hyper-sdxl-1step": Plan((800,)),
    "nitro-realism": Plan(network_timestep=lambda t: t // 4),
    "nitro-vibrant": Plan(network_timestep=lambda t: t // 2),
    "instaflow": Plan((999,)),
}
"""What the cards and the authors' code state of each, independently of the registry."""

LAYERS = {
    "sd15": "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
    "sdxl": "input_blocks_4_1_transformer_blocks_0_attn1_to_q",  # as kohya's trainer calls down_blocks.1.attentions.0 of SDXL
}
MERGED = {
    "sd15": "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "sdxl": "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
}


def test_every_registered_model_has_a_plan() -> None:
    assert {*PLANS, "pocket"} == REGISTRY.keys()


def factors() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(RANK, 32, generator=generator), torch.randn(32, RANK, generator=generator)


def save(info: ModelInfo, root: Path) -> dict[Location, Path]:
    """What the hub would hold of a model, in miniature: place to path."""
    family = "lcm" if info.name.startswith("lcm") else info.family
    found: dict[Location, Path] = {info.base: save_family(root / "base", family, kl=family != "sdxs")}
    if isinstance(info.unet, Hub):
        torch.manual_seed(7)
        found[info.unet] = root / Path(info.unet.file).name
        save_file(UNet2DConditionModel(**UNETS[family]).state_dict(), found[info.unet])
    if info.autoencoder is not None:
        torch.manual_seed(8)
        found[info.autoencoder] = root / "tiny"
        tiny_autoencoder().save_pretrained(root / "tiny")
    for lora in info.loras:
        a, b = factors()
        found[lora.location] = root / "lora.safetensors"
        name = f"lora_unet_{LAYERS[family]}"
        alpha = torch.tensor(float(RANK))
        save_file({f"{name}.lora_down.weight": a, f"{name}.lora_up.weight": b, f"{name}.alpha": alpha}, found[lora.location])
    return found


def theirs(info: ModelInfo, found: dict[Location, Path]) -> Any:
    """Diffusers' pipeline of the same files, LoRAs merged by hand."""
    pipe = pipe_of(found[info.base], info.family)
    if info.unet is not None:
        pipe.unet.load_state_dict(load_file(found[info.unet]))
    if info.autoencoder is not None:
        pipe.vae = AutoencoderTiny.from_pretrained(found[info.autoencoder], local_files_only=True).eval()
    for lora in info.loras:
        a, b = factors()
        pipe.unet.get_submodule(MERGED[info.family]).weight.data += lora.strength * b @ a
    return pipe


def expected(info: ModelInfo, pipe: Any, settings: Settings, pixels: Pixels, pipeline: StreamPipeline) -> Tensor:
    noise, plan = pipeline.open(settings).noise, PLANS[info.name.removesuffix("@main")]
    options = {"timestep_cond": guidance_embedding(torch.tensor([7.0]), 16)} if info.name.startswith("lcm") else {}
    network = plain(pipe, settings.prompt, SIZE, **options)
    if info.name == "instaflow@main":  # its published sampler: noise and one velocity, at t = 1000
        with torch.no_grad():
            return noise.level(0) + network(noise.level(0)[None], 1000, 0)
    return denoised(pipe, network, settings, pixels, noise, plan.clean, plan.timesteps, plan.network_timestep)


@pytest.mark.parametrize("name", PLANS)
def test_a_registered_model_draws_what_diffusers_parts_draw(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requested = f"{name}@main" if REGISTRY[name].unpinned else name
    info = describe(requested)
    found = save(info, tmp_path)
    monkeypatch.setattr(model_files, "locate", lambda place, offline: found[place])
    settings = BASE.patched({"steps": PLANS[name].steps or len(PLANS[name].timesteps)})
    pipeline = load(StreamSpec(requested, SIZE, SIZE, "eager", "float32"))
    assert pipeline.info == info
    source = frames(3)
    with decoded(pipeline) as latents:
        answers = stream(pipeline, settings, source)
    assert [answer.frame_id for answer in answers] == [0, 1, 2]
    assert source[1].pixels is not None
    wanted = expected(info, theirs(info, found), settings, source[1].pixels, pipeline)
    torch.testing.assert_close(latents[1], wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
