"""Identifies a model and checks whether it would load, without reading its weights: `app.py models --check`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.checkpoints.loader import networks
from pipelines.checkpoints.loader.folder import FolderCheckpoint, summarise
from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.checkpoints.loader.unet_config import native_size
from pipelines.checkpoints.naming import describe
from pipelines.networks.unet import check_supported
from pipelines.values.types import ModelError

WIDTHS = {768: "Stable Diffusion 1.5", 1024: "Stable Diffusion 2.1", 2048: "Stable Diffusion XL"}

BESIDE = {
    "mask": "an inpainting model: what the painted mask covers is drawn anew, all without one",
    "source": "an InstructPix2Pix model: the prompt is an instruction for the incoming picture",
}


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a check. facts: name → text, in display order. problem: why the model would not load, None if it would."""

    name: str
    facts: dict[str, Any]
    problem: str | None


def inspect(name: str, offline: bool = True) -> Report:
    """A report about `name` (as for `--model`) from its configuration and the headers of its files."""
    facts: dict[str, Any] = {}
    try:
        parts = ModelParts(describe(name), offline)
        facts |= _facts(parts)
        _fits(parts)
    except ModelError as error:
        return Report(name, facts, str(error))
    return Report(name, facts, None)


def family(unet: dict[str, Any]) -> str:
    """The family of a UNet's configuration, as text."""
    base = WIDTHS.get(unet.get("cross_attention_dim", 0), "Stable Diffusion with other sizes")
    if unet.get("mid_block_type", "") is None:
        base += ", without a mid block (SDXS)"
    if unet.get("time_cond_proj_dim") is not None:
        base += ", with a guidance embedding (LCM)"
    return base


def _facts(parts: ModelParts) -> dict[str, Any]:
    unet, schedule = parts.unet_config, parts.schedule
    sides = native_size(unet)
    is_folder = isinstance(parts.checkpoint, FolderCheckpoint)
    facts: dict[str, Any] = {
        "layout": "diffusers folder" if is_folder else "single file",
        "family": family(unet),
        "prediction": schedule.prediction,
        "text": f"{parts.embedding_shape[0]} tokens of {parts.embedding_shape[1]}"
        + (f", pooled to {parts.pooled_size}" if parts.pooled_size else ""),
        "latents": f"{parts.latent_channels} channels, {parts.vae_config['_class_name']}",
        "channels": list(unet["block_out_channels"]),
        "native_size": "x".join(map(str, sides)) if len(sides) > 1 else sides[0],
        "size_multiple": parts.size_multiple,
    }
    if parts.beside is not None:
        facts["beside"] = BESIDE[parts.beside]
    for lora in parts.loras:
        facts[f"lora {lora.name}"] = lora.summary
    if schedule.trained:
        facts["trained_timesteps"] = list(schedule.trained)
    if isinstance(parts.checkpoint, FolderCheckpoint):
        facts |= {part: summarise(weights) for part, weights in parts.checkpoint.weights.items()}
    else:
        facts["file"] = summarise(parts.checkpoint.file)
    return facts


def _fits(parts: ModelParts) -> None:
    """Raises ModelError for a network that the passes do not support, or weights that do not fit the configuration."""
    for part, config in parts.plan():
        shapes = {networks.modern_name(name): shape for name, shape in parts.shapes(part).items()}
        network = networks.empty(str(config["_class_name"]), config, f"{parts.name}/{part}", shapes)
        if part == "unet":
            try:
                check_supported(network)
            except ValueError as error:
                raise ModelError(f"{parts.name}/unet: {error}") from error
            for lora in parts.loras:
                lora.targets(part, network, config)
            parts.check_added(network)
        networks.check_fit(network, shapes, f"{parts.name}/{part}")
    for part in parts.text_parts:
        config = parts.checkpoint.configs[part]
        encoder = networks.empty_text(part, config, f"{parts.name}/{part}")
        for lora in parts.loras:
            lora.targets(part, encoder, parts.unet_config)
        if isinstance(parts.checkpoint, FolderCheckpoint):
            networks.check_text(encoder, parts.checkpoint.weights[part], f"{parts.name}/{part}")
