"""A ControlNet's folder in the diffusers layout, checked against its UNet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.checkpoints.loader.files import Folder
from pipelines.values.types import ModelError

if TYPE_CHECKING:
    from torch import nn

SUPPORTED: dict[str, tuple[object, ...]] = {
    "addition_embed_type": (None, "text_time"),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "encoder_hid_dim_type": (None,),
    "global_pool_conditions": (False,),
    "conditioning_channels": (3,),
    "controlnet_conditioning_channel_order": ("rgb",),
}
"""Values of a ControlNet's configuration that ControlPass supports."""

SHARED = ("in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim", "down_block_types")
"""Fields of the configuration that must be equal for a ControlNet and its UNet, because residuals are added to skips."""

DEFAULTS: dict[str, Any] = {
    "controlnet_conditioning_channel_order": "rgb",
    "global_pool_conditions": False,
    "conditioning_channels": 3,
}


class ControlFolder:
    """A ControlNet on disk with checked configuration and header; weights are not read yet. Raises ModelError."""

    def __init__(self, path: Path, unet_config: Mapping[str, Any]) -> None:
        if not path.is_dir():
            raise ModelError(f"{path.name}: a ControlNet is a folder with config.json and a .safetensors file")
        folder = Folder(path)
        self.name = folder.name
        self.config = folder.json("config.json")
        kind = self.config.get("_class_name")
        if kind != "ControlNetModel":
            raise ModelError(f"{self.name}/config.json: {kind!r} is not ControlNetModel")
        for field, allowed in SUPPORTED.items():
            value = self.config.get(field, DEFAULTS.get(field))
            if value not in allowed:
                only = ", ".join(map(repr, allowed))
                raise ModelError(f"{self.name}/config.json: {field} = {value!r} is not supported; supported is {only}")
        for field in (*SHARED, "addition_embed_type"):
            mine, theirs = _plain(self.config.get(field)), _plain(unet_config.get(field))
            if mine != theirs:
                raise ModelError(f"{self.name}: is for another model: {field} is {mine}, the UNet has {theirs}")
        self.weights = folder.weights("")

    def check(self) -> None:
        """Raises ModelError for weights that do not fit the configuration, from the header alone."""
        from pipelines.checkpoints.loader import networks

        shapes = {name: info.shape for name, info in self.weights.tensors.items()}
        networks.check_fit(networks.empty("ControlNetModel", self.config, self.name), shapes, self.name)

    def network(self) -> nn.Module:
        """The network, in the files' own dtype."""
        from pipelines.checkpoints.loader import networks

        return networks.build("ControlNetModel", self.config, networks.read(self.weights), self.name)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
