"""A UNet or an autoencoder that replaces that of a checkpoint: a folder of diffusers, or one file in its layout or the original.

A file has no configuration: a UNet and a full autoencoder have that of the checkpoint, a tiny autoencoder the published one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.checkpoints.loader import identify
from pipelines.checkpoints.loader.files import Folder, Weights, read_weights
from pipelines.checkpoints.loader.single import UNET, converted
from pipelines.values.types import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

ORIGINAL = {"unet": "input_blocks.0.0.weight", "vae": "encoder.down.0.block.0.norm1.weight"}
TINY = "decoder.layers.0.weight"
TINY_LATENTS = 4


class Replacement:
    """part: unet or vae. config: of the checkpoint's. The header is checked; weights are not read yet. Raises ModelError."""

    def __init__(self, path: Path, part: str, config: Mapping[str, Any]) -> None:
        self.name, self.part = path.name, part
        if path.is_dir():
            folder = Folder(path)
            self.weights: Weights = folder.weights("")
            self.config = folder.json("config.json")
        else:
            self.weights = read_weights([path], path.name)
            self.config = {**config, **self._stated()}
        tensors = self.weights.tensors
        identify.check_dtypes(tensors, self.name)
        self._original = any(name.endswith(ORIGINAL[part]) for name in tensors)
        if part == "vae" and TINY in tensors and not path.is_dir():
            self.config = {"_class_name": "AutoencoderTiny", "latent_channels": TINY_LATENTS}
        modern = "conv_in.weight" if part == "unet" else "decoder.conv_in.weight"
        is_known = self._original or modern in tensors
        if not is_known and (part == "unet" or self.config.get("_class_name") == "AutoencoderKL"):
            what = "UNet" if part == "unet" else "autoencoder"
            raise ModelError(f"{self.name}: contains no {what}; {identify.of_tensors(tensors)}")

    def _stated(self) -> dict[str, Any]:
        """What the header of a UNet's file states of its configuration: how many channels it takes."""
        first = (f"{UNET}{ORIGINAL['unet']}", ORIGINAL["unet"], "conv_in.weight")
        found = [self.weights.tensors[name].shape for name in first if name in self.weights.tensors]
        return {"in_channels": found[0][1]} if self.part == "unet" and found and len(found[0]) > 1 else {}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of its tensors by their names in diffusers, from the header alone. Raises ModelError."""
        import torch

        if not self._original:
            return {name: info.shape for name, info in self.weights.tensors.items()}
        stand_ins = {name: torch.empty(info.shape, device="meta") for name, info in self.weights.tensors.items()}
        return {name: tuple(tensor.shape) for name, tensor in self._converted(stand_ins).items()}

    def network(self) -> nn.Module:
        """The network in the file's own dtype. Raises ModelError."""
        from pipelines.checkpoints.loader import networks

        tensors = networks.read(self.weights)
        kind = "UNet2DConditionModel" if self.part == "unet" else str(self.config["_class_name"])
        return networks.build(kind, self.config, self._converted(tensors) if self._original else tensors, self.name)

    def _converted(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.part == "unet" and not any(name.startswith(UNET) for name in tensors):
            tensors = {f"{UNET}{name}": tensor for name, tensor in tensors.items()}
        return converted(self.part, tensors, self.config, self.name)
