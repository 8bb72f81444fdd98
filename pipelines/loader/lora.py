"""LoRA fused into weights when they are loaded: W ← W + strength · α/r · B·A (arXiv 2106.09685), through peft.

Reads the diffusers layout and the older one of kohya's trainer. A layer of the file that the model does not have is an error, not
a warning: a LoRA of another family would change nothing, silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pipelines.loader import networks
from pipelines.loader.files import Folder, Weights, read_weights
from pipelines.types import ModelError

PREFIXES = ("unet", "text_encoder", "text_encoder_2")
SUFFIXES = (".lora", ".alpha", ".diff")


class LoraFile:
    """A LoRA on disk whose header has been checked. Raises ModelError."""

    def __init__(self, path: Path, strength: float) -> None:
        self.name = path.name
        self.strength = strength
        self.weights: Weights = Folder(path).weights("") if path.is_dir() else read_weights([path], path.name)
        if not any(".lora" in name for name in self.weights.tensors):
            raise ModelError(f"{self.name}: holds no LoRA; no tensor of it is called .lora_A, .lora_down or alike")

    def fuse(self, part: str, network: nn.Module, unet_config: Mapping[str, Any]) -> None:
        """Add the LoRA's share to the weights of one part, in place. Nothing happens if the file has none for it."""
        state, alphas = self._read(unet_config)
        own = {name: tensor for name, tensor in state.items() if name.startswith(f"{part}.")}
        if not own:
            return
        self._check(part, network, own)
        try:
            _merge(part, network, own, alphas, self.strength)
        except networks.LOADING_ERRORS as error:
            raise ModelError(f"{self.name}: does not fit the {part}: {error}") from error

    def _read(self, unet_config: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, float]]:
        """The tensors under the names of diffusers' parts, and α by layer."""
        from diffusers.configuration_utils import FrozenDict
        from diffusers.loaders import StableDiffusionXLLoraLoaderMixin

        networks.quiet()
        try:
            state, alphas = StableDiffusionXLLoraLoaderMixin.lora_state_dict(
                networks.read(self.weights), unet_config=FrozenDict(unet_config)
            )
        except networks.LOADING_ERRORS as error:
            raise ModelError(f"{self.name}: is not a LoRA of a known layout: {error}") from error
        stray = [name for name in state if not name.startswith(tuple(f"{prefix}." for prefix in PREFIXES))]
        if stray:
            raise ModelError(f"{self.name}: {stray[0]!r} belongs to no part of a Stable Diffusion model")
        return state, alphas or {}

    def _check(self, part: str, network: nn.Module, own: Mapping[str, Tensor]) -> None:
        layers = {name for name, _ in network.named_modules()}
        for name in own:
            layer = name.removeprefix(f"{part}.")
            for suffix in SUFFIXES:
                layer = layer.partition(suffix)[0]
            layer = layer.removesuffix(".processor")
            if layer.removeprefix("text_model.") not in layers and layer not in layers:
                raise ModelError(f"{self.name}: is for another model; this {part} has no layer {layer!r}")


def _merge(part: str, network: Any, own: Mapping[str, Tensor], alphas: Mapping[str, float], strength: float) -> None:
    from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
    from diffusers.loaders.lora_base import fuse_text_encoder_lora
    from diffusers.utils import recurse_remove_peft_layers

    if part == "unet":
        network.load_lora_adapter(dict(own), prefix=part, network_alphas=dict(alphas) or None, adapter_name="rill")
        network.fuse_lora(lora_scale=strength, adapter_names=["rill"])
        network.unload_lora()
    else:
        StableDiffusionXLLoraLoaderMixin.load_lora_into_text_encoder(
            dict(own), dict(alphas) or None, network, prefix=part, adapter_name="rill"
        )
        fuse_text_encoder_lora(network, strength)
        recurse_remove_peft_layers(network)
    network.eval().requires_grad_(False)
