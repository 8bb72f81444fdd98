"""A ControlNet, a folder of diffusers or one file in its layout or the original, checked against its UNet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.checkpoints.loader import identify
from pipelines.checkpoints.loader.files import PICKLED, Folder, Weights, read_weights
from pipelines.values.types import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

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

FROM_UNET = (
    *SHARED, "attention_head_dim", "norm_num_groups", "use_linear_projection", "transformer_layers_per_block",
    "addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim",
)  # fmt: skip
"""Fields that a ControlNet without a configuration has from its UNet."""

ADDED = {"label_emb.0.0.": "add_embedding.linear_1.", "label_emb.0.2.": "add_embedding.linear_2."}

DEFAULTS: dict[str, Any] = {
    "controlnet_conditioning_channel_order": "rgb",
    "global_pool_conditions": False,
    "conditioning_channels": 3,
}


class ControlFolder:
    """A ControlNet on disk with checked configuration and header; weights are not read yet. Raises ModelError."""

    def __init__(self, path: Path, unet_config: Mapping[str, Any]) -> None:
        self.name, self._original = path.name, False
        folder = Folder(path) if path.is_dir() else None
        if folder is not None:
            self.config = folder.json("config.json")
        else:
            if path.suffix in PICKLED:
                raise ModelError(
                    f"{self.name}: is pickled, and reading a pickle may run code; only .safetensors files are loaded"
                )
            self.weights: Weights = read_weights([path], self.name)
            self._original = any("input_hint_block." in name for name in self.weights.tensors)
            if not self._original and "controlnet_cond_embedding.conv_in.weight" not in self.weights.tensors:
                raise ModelError(f"{self.name}: contains no ControlNet; {identify.of_tensors(self.weights.tensors)}")
            self.config = self._assumed(unet_config)
            if any(name.startswith(("task_embedding", "control_add_embedding")) for name in self.weights.tensors):
                raise ModelError(f"{self.name}: is a ControlNet Union; use one ControlNet for one kind of map")
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
        if folder is not None:
            self.weights = folder.weights("")

    def check(self) -> None:
        """Raises ModelError for weights that do not fit the configuration, from the header alone."""
        import torch

        from pipelines.checkpoints.loader import networks

        stand_ins = {name: torch.empty(info.shape, device="meta") for name, info in self.weights.tensors.items()}
        shapes = {name: tuple(tensor.shape) for name, tensor in self._converted(stand_ins).items()}
        networks.check_fit(networks.empty("ControlNetModel", self.config, self.name), shapes, self.name)

    def network(self) -> nn.Module:
        """The network, in the files' own dtype."""
        from pipelines.checkpoints.loader import networks

        return networks.build("ControlNetModel", self.config, self._converted(networks.read(self.weights)), self.name)

    def _assumed(self, unet_config: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration of a file, which has none: the UNet's, and the widths of the map's layers from the header."""
        config = {field: unet_config[field] for field in FROM_UNET if field in unet_config}
        widths = [self.weights.tensors[name].shape[0] for name in self._hint_layers()[::2]]
        return {**config, "_class_name": "ControlNetModel", "conditioning_embedding_out_channels": widths}

    def _hint_layers(self) -> list[str]:
        """The weights of the map's layers before the last, in order."""
        names = [name for name in self.weights.tensors if name.endswith(".weight")]
        if self._original:
            found = [name for name in names if "input_hint_block." in name]
            return sorted(found, key=lambda name: int(name.split("input_hint_block.")[1].split(".")[0]))[:-1]
        prefix = "controlnet_cond_embedding."
        blocks = [name for name in names if name.startswith(f"{prefix}blocks.")]
        return [f"{prefix}conv_in.weight", *sorted(blocks, key=lambda name: int(name.split(".")[2]))]

    def _converted(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not self._original:
            return dict(tensors)
        from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

        from pipelines.checkpoints.loader import networks

        try:
            converted: dict[str, Tensor] = convert_controlnet_checkpoint(dict(tensors), self.config)
        except networks.LOADING_ERRORS as error:
            raise ModelError(f"{self.name}: cannot be converted: {error}") from error
        for name, tensor in tensors.items():  # diffusers' table lacks SDXL's sizes and pooled text
            plain = name.removeprefix("control_model.")
            for original, modern in ADDED.items():
                if plain.startswith(original):
                    converted[modern + plain.removeprefix(original)] = tensor
        return converted


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
