"""Which graphs on disk a changed model still uses: those of the networks that are the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from pipelines import StreamSpec, load
from pipelines.graphs.keys import GraphKey
from pipelines.networks.painter import Painter
from tests.miniature import save_lora

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CONTROL = {"control", "controlled-full"}
UNET = {"modulate", "full", "encoder", "decoder", "keeping", "window", *CONTROL}
PAINTER = {"paint", "paint-keeping", "paint-window"}
AUTOENCODER = {"encode", "encode-masked", "encode-window", "decode", "decode-window", *PAINTER}


def lora(model: Path) -> str:
    pair = torch.ones(2, 32), torch.ones(32, 2)
    return f"{model}+{save_lora(model.parent / 'a.safetensors', {LAYER: pair})}"


def control(model: Path) -> str:
    ControlNetModel.from_unet(UNet2DConditionModel.from_pretrained(model / "unet")).save_pretrained(model.parent / "control")
    return f"{model}+control={model.parent / 'control'}"


def touch_weights(model: Path, part: str) -> str:
    weights = model / part / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    return str(model)


def names(model: str, dtype: str) -> dict[str, str]:
    """Names of the graphs by part, from an engine that builds none."""
    pipeline = load(StreamSpec(model, 128, 128, "openvino", dtype, "cpu"), warm=False)
    return {part: pipeline.graphs._name(GraphKey(part, 1)) for part in UNET | AUTOENCODER}


CHANGES: dict[str, tuple[Callable[[Path], str], set[str], set[str]]] = {
    "LoRA": (lora, UNET, UNET | {"decode"}),
    "UNet": (lambda model: touch_weights(model, "unet"), UNET, UNET | {"decode"}),
    "autoencoder": (lambda model: touch_weights(model, "vae"), AUTOENCODER, AUTOENCODER | {"full", "encoder", "decoder"}),
    "painter": (lambda model: touch_weights(model, "painter"), PAINTER, PAINTER),
    "ControlNet": (control, CONTROL, CONTROL),
    "nothing": (str, set(), set()),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_change_renames_the_graphs_of_its_own_network(calibrated: Path, tmp_path: Path, change: str, dtype: str) -> None:
    """In int8 also those whose calibration it has part in: inputs of the UNet's passes and of the decoder."""
    model = tmp_path / "model"
    shutil.copytree(calibrated, model)
    Painter(channels=8, blocks=1, up_channels=(8, 4), num_styles=3).save_pretrained(model / "painter")
    make, floats, integers = CHANGES[change]
    before, after = names(str(model), dtype), names(make(model), dtype)
    assert {part for part in before if before[part] != after[part]} == (floats if dtype == "float32" else integers)
