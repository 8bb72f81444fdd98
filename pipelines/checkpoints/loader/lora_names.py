"""Maps the names of a LoRA's tensors to parts and layers, for all published layouts.

Kohya's trainer writes a layer's dots as underscores. Only the network can resolve them, so layers are compared in that flat
form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

PREFIXES: dict[str, tuple[str, ...]] = {
    "unet": ("unet.", "lora_unet_", "lycoris_unet_"),
    "text_encoder": ("text_encoder.", "lora_te_", "lora_te1_"),
    "text_encoder_2": ("text_encoder_2.", "lora_te2_"),
}
"""Prefixes of the tensor names of each part, in diffusers' layout and in kohya's."""

ROOTS = ("down_blocks.", "mid_block.", "up_blocks.", "conv_in.", "conv_out.", "time_embedding.", "add_embedding.")
ORIGINAL_ROOTS = ("input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb.", "out.")
TEXT_ROOTS = ("text_model.", "encoder.layers.")
WRAPPERS = ("base_model.model.", "diffusion_model.")
"""Prefixes that peft and other programs put before a name."""

DOWN, UP, MID, ALPHA, LENGTHS = "down", "up", "mid", "alpha", "lengths"
ENDINGS = {
    ".lora_A.weight": DOWN, ".lora_down.weight": DOWN, ".lora_linear_layer.down.weight": DOWN, ".lora.down.weight": DOWN,
    ".lora_B.weight": UP, ".lora_up.weight": UP, ".lora_linear_layer.up.weight": UP, ".lora.up.weight": UP,
    "_lora.down.weight": DOWN, "_lora.up.weight": UP,
    ".lora_mid.weight": MID, ".alpha": ALPHA,
    ".dora_scale": LENGTHS, ".lora_magnitude_vector": LENGTHS, ".lora_magnitude_vector.weight": LENGTHS,
} | {f".hada_{end}": f"hada_{end}" for end in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")} | {
    f".lokr_{end}": f"lokr_{end}" for end in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
}  # fmt: skip
"""Suffixes of the tensor names. Those with "_lora." are from diffusers' first attention processors."""

ADAPTER = re.compile(r"(?<=\.lora_[AB])\.\w{1,64}(?=\.weight$)|(?<=\.lora_magnitude_vector)\.(?!weight$)\w{1,64}(?=\.weight$|$)")
"""The name of an adapter, which peft puts inside a tensor's name: lora_A.default.weight."""

OLD_TEXT = {"self_attn_to_q": "q_proj", "self_attn_to_k": "k_proj", "self_attn_to_v": "v_proj", "self_attn_to_out": "out_proj"}
"""Names of a text encoder's attention in files of diffusers' first trainers."""


@dataclass(frozen=True, slots=True)
class LoraTensor:
    """A parsed name: the part, the layer with underscores for dots, and the side (a factor or alpha)."""

    part: str
    layer: str
    side: str


def parse(name: str) -> LoraTensor | None:
    """The parsed name of a tensor, None if it is no known factor of an adapter or belongs to no part."""
    part, layer = _located(name)
    layer = ADAPTER.sub("", layer)
    ending = next((ending for ending in ENDINGS if layer.endswith(ending)), "")
    if not part or not ending:
        return None
    return LoraTensor(part, _flat(layer.removesuffix(ending), part), ENDINGS[ending])


def belongs(name: str) -> bool:
    """Whether a tensor's name has the prefix of a part of Stable Diffusion."""
    return bool(_located(name)[0])


def written(name: str, part: str) -> str:
    """The layer in a tensor's name, as the file writes it."""
    plain = ADAPTER.sub("", _unwrapped(name)).removeprefix(f"{part}.")
    ending = next((ending for ending in ENDINGS if plain.endswith(ending)), "")
    return plain.removesuffix(ending)


def _located(name: str) -> tuple[str, str]:
    """(part, the rest of the name); the part is empty if the name belongs to none.

    Names without a part's prefix are as peft writes one network: of the UNet, or of the first text encoder.
    """
    bare = _unwrapped(name)
    for part, prefixes in PREFIXES.items():
        for prefix in prefixes:
            if bare.startswith(prefix):
                return part, _unwrapped(bare.removeprefix(prefix))
    if bare.startswith((*ROOTS, *ORIGINAL_ROOTS)):
        return "unet", bare
    return ("text_encoder", bare) if bare.startswith(TEXT_ROOTS) else ("", bare)


def _unwrapped(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def layers(part: str, network: nn.Module) -> dict[str, str]:
    """Flat name → name in the network, for every layer that a LoRA can change."""
    from torch import nn

    found = (name for name, layer in network.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d)))
    return {_flat(name, part): name for name in found}


def original(names: Iterable[str], config: Mapping[str, Any]) -> dict[str, str]:
    """Flat names of the original UNet's layout ("input_blocks_4_1_...", as kohya writes SDXL) → diffusers' flat names, as far
    as diffusers can translate them. config: the UNet's.

    One layer at a time: in a file with both layouts diffusers drops the original one.
    """
    import torch
    from diffusers.configuration_utils import FrozenDict
    from diffusers.loaders import StableDiffusionXLLoraLoaderMixin

    known: dict[str, str] = {}
    for name in names:
        pair = {f"lora_unet_{name}.lora_{side}.weight": torch.zeros(()) for side in (DOWN, UP)}
        try:
            renamed, _ = StableDiffusionXLLoraLoaderMixin.lora_state_dict(pair, unet_config=FrozenDict(config))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            continue
        if (found := parse(next(iter(renamed), ""))) is not None:
            known[name] = found.layer
    return known


def _flat(layer: str, part: str) -> str:
    flat = layer.replace(".", "_")
    if part == "unet":
        flat = flat.replace("_processor_", "_")
        return f"{flat}_0" if flat.endswith("_to_out") else flat
    flat = flat.removeprefix("text_model_")
    for old, new in OLD_TEXT.items():
        if flat.endswith(old):
            return f"{flat.removesuffix(old)}self_attn_{new}"
    return flat
