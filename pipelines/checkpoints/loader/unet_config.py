"""Checks the configurations of a UNet and an autoencoder for what Rill's passes compute, before a network is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pipelines.values.types import ModelError

SPATIAL_FACTOR = 8  # pixels per latent cell, in every model of the Stable Diffusion kind
BLOCKS: dict[str, tuple[str | None, ...]] = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "mid_block_type": ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None),
}
FIELDS: dict[str, tuple[object, ...]] = {
    "addition_embed_type": (None, "text", "text_time"),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "encoder_hid_dim_type": (None,),
    "encoder_hid_dim": (None,),
    "center_input_sample": (False,),
    "attention_type": ("default",),
    "time_embedding_type": ("positional",),
    "class_embeddings_concat": (False,),
}
"""Field → the values that the passes compute; the last is not required, the default of a missing field is among them."""

NUMBERS = ("in_channels", "out_channels", "cross_attention_dim")
CHANNELS = {5: "a depth model", 7: "an upscaler"}

Beside = Literal["mask", "source"]
"""What a UNet takes beside its latent: a mask and the masked picture (inpainting), or the picture (InstructPix2Pix)."""


def beside(channels: int, latents: int) -> Beside | None:
    """What a UNet of so many input channels takes beside a latent of so many; None for nothing. Raises ValueError for others."""
    known: dict[int, Beside | None] = {latents: None, 2 * latents + 1: "mask", 2 * latents: "source"}
    if channels not in known:
        raise ValueError(f"{channels} channels are not those of a latent of {latents}, alone or with a mask or a picture")
    return known[channels]


def check_unet(config: Mapping[str, Any], label: str) -> None:
    """Raises ModelError, which names the field, for a UNet that the passes do not compute."""
    label = f"{label}: unet/config.json"
    for field in NUMBERS:
        value = config.get(field)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ModelError(f"{label}: {field} = {value!r} is not supported; supported is one whole number")
    for field, kinds in BLOCKS.items():
        given = config.get(field, "UNetMidBlock2DCrossAttn")
        for kind in given if isinstance(given, (list, tuple)) else [given]:
            if kind not in kinds:
                raise ModelError(f"{label}: {field} has {kind!r}; supported are {', '.join(map(str, kinds))}")
    for field, allowed in FIELDS.items():
        if config.get(field, allowed[0]) not in allowed:
            only = ", ".join(map(repr, allowed))
            raise ModelError(f"{label}: {field} = {config[field]!r} is not supported; supported is {only}")
    channels, made = config["in_channels"], config["out_channels"]
    try:
        beside(channels, made)
    except ValueError:
        what = CHANNELS.get(channels, "another kind of model") if made == 4 else "another kind of model"
        raise ModelError(
            f"{label}: the UNet takes {channels} channels and makes {made}; it is {what}, and Rill runs those that make as many "
            "channels as they take, inpainting models (with a mask and a picture) and InstructPix2Pix (with a picture)"
        ) from None


def check_autoencoder(config: Mapping[str, Any], label: str) -> None:
    """Raises ModelError for an autoencoder whose latents have another size than a UNet's."""
    channels = config.get("block_out_channels") or config.get("encoder_block_out_channels")
    if config.get("_class_name") not in ("AutoencoderKL", "AutoencoderTiny") or not isinstance(channels, (list, tuple)):
        return
    factor = 2 ** (len(channels) - 1)
    if factor != SPATIAL_FACTOR:
        size = f"{SPATIAL_FACTOR}x{SPATIAL_FACTOR}"
        raise ModelError(f"{label}: a latent cell of its autoencoder has {factor}x{factor} pixels; supported is {size}")


def native_size(config: Mapping[str, Any]) -> list[int]:
    """Width and height in pixels at which a UNet was trained; one number if they are equal."""
    given = config.get("sample_size") or 64
    sides = given if isinstance(given, (list, tuple)) else [given]
    return [int(side) * SPATIAL_FACTOR for side in dict.fromkeys(reversed(sides))]
