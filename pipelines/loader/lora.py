"""LoRA fused into weights when they are loaded: W ← W + strength · α/r · B·A (arXiv 2106.09685).

Reads the layout of diffusers' trainers and that of kohya's, in which nearly all files are published. The UNet's share goes
through diffusers and peft, which know the names of SDXL's blocks; the text encoders' share is merged here. A layer of the file
that the model does not have is an error, not a warning: a LoRA of another family would change nothing, silently.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.loader import networks
from pipelines.loader.files import PICKLED, Folder, Weights, read_weights
from pipelines.types import ModelError

PREFIXES: dict[str, tuple[str, ...]] = {
    "unet": ("unet.", "lora_unet_"),
    "text_encoder": ("text_encoder.", "lora_te_", "lora_te1_"),
    "text_encoder_2": ("text_encoder_2.", "lora_te2_"),
}
"""How the names of a part's tensors begin, in diffusers' layout and in kohya's."""

DOWN = ("lora_A.weight", "lora_down.weight", "lora_linear_layer.down.weight", "lora.down.weight")
UP = ("lora_B.weight", "lora_up.weight", "lora_linear_layer.up.weight", "lora.up.weight")
OLDEST = ("_lora.down.weight", "_lora.up.weight")
"""Endings in the layout of the first attention processors, which diffusers still reads."""


class LoraFile:
    """A LoRA on disk whose header has been checked. Raises ModelError."""

    def __init__(self, path: Path, strength: float) -> None:
        self.name = path.name
        self.strength = strength
        if path.suffix in PICKLED:
            raise ModelError(f"{self.name}: is pickled, and reading a pickle may run code; only .safetensors are loaded")
        self.weights: Weights = Folder(path).weights("") if path.is_dir() else read_weights([path], path.name)
        if not any("lora" in name for name in self.weights.tensors):
            raise ModelError(f"{self.name}: holds no LoRA; no tensor of it is called lora_A, lora_down or alike")
        known = tuple(prefix for prefixes in PREFIXES.values() for prefix in prefixes)
        for name in self.weights.tensors:
            if not name.startswith(known):
                raise ModelError(f"{self.name}: {name!r} belongs to no part of a Stable Diffusion model")
            if not name.endswith((*DOWN, *UP, *OLDEST, ".alpha")):
                raise ModelError(f"{self.name}: {name!r} is no factor of a plain LoRA; LoHa, LoKr, DoRA and others are not read")

    def fuse(self, part: str, network: nn.Module, unet_config: Mapping[str, Any]) -> None:
        """Add the LoRA's share to the weights of one part, in place. Nothing happens if the file has none for it."""
        own = {name: value for name, value in networks.read(self.weights).items() if name.startswith(PREFIXES[part])}
        if not own:
            return
        try:
            if part == "unet":
                self._fuse_unet(network, own, unet_config)
            else:
                self._fuse_text(part, network, own)
        except networks.LOADING_ERRORS as error:
            raise ModelError(f"{self.name}: does not fit the {part}: {error}") from error
        network.eval().requires_grad_(False)

    def _fuse_unet(self, network: Any, own: dict[str, Tensor], config: Mapping[str, Any]) -> None:
        from diffusers.configuration_utils import FrozenDict
        from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
        from diffusers.utils import convert_unet_state_dict_to_peft

        networks.quiet()
        state, alphas = StableDiffusionXLLoraLoaderMixin.lora_state_dict(own, unet_config=FrozenDict(config))
        layers = {name for name, _ in network.named_modules()}
        for name in convert_unet_state_dict_to_peft(dict(state)):
            layer = name.removeprefix("unet.").partition(".lora_")[0]
            if layer not in layers and not name.endswith(".alpha"):
                raise self._stranger("unet", layer)
        network.load_lora_adapter(state, prefix="unet", network_alphas=alphas, adapter_name="rill")
        network.fuse_lora(lora_scale=self.strength, adapter_names=["rill"])
        network.unload_lora()

    def _fuse_text(self, part: str, network: nn.Module, own: Mapping[str, Tensor]) -> None:
        # Kohya writes a layer's name with underscores, which only the network itself can tell from dots.
        layers = {
            f"text_model_{name.removeprefix('text_model.')}".replace(".", "_"): layer for name, layer in network.named_modules()
        }
        shares: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for name, value in own.items():
            prefix = next(prefix for prefix in PREFIXES[part] if name.startswith(prefix))
            for side, endings in (("down", DOWN), ("up", UP), ("alpha", ("alpha",))):
                for ending in endings:
                    if name.endswith(f".{ending}"):
                        shares[name.removeprefix(prefix).removesuffix(f".{ending}").replace(".", "_")][side] = value
        for layer, share in shares.items():
            target = layers.get(layer)
            if not isinstance(target, nn.Linear):
                raise self._stranger(part, layer)
            target.weight.data += self._share(share).to(target.weight.dtype)

    def _share(self, share: Mapping[str, Tensor]) -> Tensor:
        down, up = share["down"].float(), share["up"].float()  # [r, in], [out, r]
        alpha = float(share.get("alpha", torch.tensor(float(down.shape[0]))))
        return self.strength * alpha / down.shape[0] * (up @ down)

    def _stranger(self, part: str, layer: str) -> ModelError:
        return ModelError(f"{self.name}: is for another model; this {part} has no layer {layer!r}")
