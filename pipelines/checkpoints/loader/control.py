"""A ControlNet, ControlNet Union or T2I-Adapter: a folder of diffusers or one file, checked against its UNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

CLASSES = ("ControlNetModel", "ControlNetUnionModel", "T2IAdapter")
UNION = "task_embedding"
ADAPTER = "adapter.body."
CELL = 8  # pixels of a latent cell
ADAPTER_SIDE = 512  # in pixels; any that all levels divide

DEFAULTS: dict[str, Any] = {
    "controlnet_conditioning_channel_order": "rgb",
    "global_pool_conditions": False,
    "conditioning_channels": 3,
}


class ControlFolder:
    """One of CLASSES on disk, with checked configuration and header; weights are not read yet. Raises ModelError.

    map, weight: as of values.models.Control.
    """

    def __init__(self, path: Path, unet_config: Mapping[str, Any], map: str | None = None, weight: float = 1.0) -> None:
        self.name, self._original = path.name, False
        self.map, self.weight = map, weight
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
            tensors = self.weights.tensors
            if any(name.startswith(ADAPTER) for name in tensors):
                self.config = self._assumed_adapter()
            elif self._original or "controlnet_cond_embedding.conv_in.weight" in tensors:
                self.config = self._assumed(unet_config)
            else:
                raise ModelError(f"{self.name}: contains no ControlNet; {identify.of_tensors(tensors)}")
        self._check_class()
        if not self.is_adapter:
            self._check_fields(unet_config)
        if folder is not None:
            self.weights = folder.weights("")
        self._check_union()

    @property
    def is_adapter(self) -> bool:
        """Whether it is a T2I-Adapter."""
        return bool(self.config["_class_name"] == "T2IAdapter")

    @property
    def is_union(self) -> bool:
        """Whether it takes the kind of the map as an input."""
        return bool(self.config["_class_name"] == "ControlNetUnionModel")

    def _check_class(self) -> None:
        kind = self.config.get("_class_name")
        if kind not in CLASSES and not str(kind).startswith(
            "ControlNetModel"
        ):  # an early name of the union: ControlNetModel_Union
            raise ModelError(f"{self.name}/config.json: {kind!r} is not ControlNetModel, or another of {', '.join(CLASSES[1:])}")

    def _check_union(self) -> None:
        """A ControlNet Union is known by its tensors, and states its sizes by them."""
        tensors = self.weights.tensors
        if UNION not in tensors:
            if self.config["_class_name"] not in CLASSES or self.is_union:
                raise ModelError(f"{self.name}: has no tensor {UNION!r}, which a ControlNet Union has")
            return
        if self._original:
            raise ModelError(f"{self.name}: is a ControlNet Union in its original layout; supported is diffusers' own")
        kinds, width = tensors[UNION].shape
        layers = {name.split(".")[1] for name in tensors if name.startswith("transformer_layes.")}
        stated = {"num_control_type": kinds, "num_trans_channel": width, "num_trans_layer": len(layers)}
        if "spatial_ch_projs.weight" in tensors:
            stated["num_proj_channel"] = tensors["spatial_ch_projs.weight"].shape[0]
        self.config = {**self.config, **stated, "_class_name": "ControlNetUnionModel"}

    def _check_fields(self, unet_config: Mapping[str, Any]) -> None:
        for field, allowed in SUPPORTED.items():
            value = self.config.get(field, DEFAULTS.get(field))
            if value not in allowed:
                only = ", ".join(map(repr, allowed))
                raise ModelError(f"{self.name}/config.json: {field} = {value!r} is not supported; supported is {only}")
        for field in (*SHARED, "addition_embed_type"):
            mine, theirs = _plain(self.config.get(field)), _plain(unet_config.get(field))
            if mine != theirs:
                raise ModelError(f"{self.name}: is for another model: {field} is {mine}, the UNet has {theirs}")

    def check(self, unet: Any, inside: Sequence[int]) -> None:
        """Raises ModelError for weights that do not fit the configuration, from the header alone, and for a T2I-Adapter of
        another UNet. unet: on the meta device. inside: as of `adapter_places`."""
        import torch

        from pipelines.checkpoints.loader import networks

        stand_ins = {name: torch.empty(info.shape, device="meta") for name, info in self.weights.tensors.items()}
        shapes = {name: tuple(tensor.shape) for name, tensor in self._converted(stand_ins).items()}
        network = networks.empty(str(self.config["_class_name"]), self.config, self.name)
        networks.check_fit(network, shapes, self.name)
        if self.is_adapter:
            self._check_features(network, unet, inside)

    def _check_features(self, network: Any, unet: Any, inside: Sequence[int]) -> None:
        """Raises ModelError for features of a T2I-Adapter that the UNet has no place for."""
        import torch

        from pipelines.networks.unet import skip_shapes

        cells = ADAPTER_SIDE // CELL
        skips = skip_shapes(unet, cells, cells)
        wanted = [list(skips[min(place, len(skips) - 1)]) for place in inside]
        sides = (1, int(self.config["in_channels"]), ADAPTER_SIDE, ADAPTER_SIDE)
        made = [list(feature.shape[1:]) for feature in network(torch.empty(sides, device="meta"))]
        if made != wanted[: len(made)] or len(made) < len(wanted) - 1:
            raise ModelError(f"{self.name}: is for another model: its features are {made}, the UNet takes {wanted}")

    def network(self) -> nn.Module:
        """The network, in the files' own dtype."""
        from pipelines.checkpoints.loader import networks

        return networks.build(
            str(self.config["_class_name"]), self.config, self._converted(networks.read(self.weights)), self.name
        )

    def _assumed_adapter(self) -> dict[str, Any]:
        """The configuration of a T2I-Adapter's file, which has none, from its header."""
        tensors = self.weights.tensors
        blocks = sorted({int(name.split(".")[2]) for name in tensors if name.startswith(ADAPTER)})
        light = "adapter.conv_in.weight" not in tensors
        first = tensors.get(f"{ADAPTER}0.in_conv.weight" if light else "adapter.conv_in.weight")
        last = "out_conv.weight" if light else "resnets.0.block2.weight"
        ends = [tensors.get(f"{ADAPTER}{block}.{last}") for block in blocks]
        layers = {name.split(".")[4] for name in tensors if name.startswith(f"{ADAPTER}0.resnets.")}
        taken = {1: 64, 3: 192} if first is None or first.shape[1] < 256 else {1: 256, 3: 768}
        found = [count for count, width in taken.items() if first is not None and first.shape[1] == width]
        if not found or None in ends or not layers:
            raise ModelError(f"{self.name}: is a T2I-Adapter in a layout that is not known; use its folder in diffusers' layout")
        channels = [end.shape[0] for end in ends if end is not None]
        large = first is not None and first.shape[1] >= 256
        return {
            "_class_name": "T2IAdapter",
            "adapter_type": "light_adapter" if light else "full_adapter_xl" if large else "full_adapter",
            "in_channels": found[0],
            "channels": channels[:-1] if light else channels,
            "num_res_blocks": len(layers),
            "downscale_factor": 16 if large else 8,
        }

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


def adapter_places(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Where a UNet of this configuration takes the features of a T2I-Adapter: numbers of its skips, outermost first, each after
    the layer that makes it; the number beyond the last is the middle's output."""
    layers, kinds = config["layers_per_block"], config["down_block_types"]
    counts = layers if isinstance(layers, list) else [layers] * len(kinds)
    places, skip = [], 0
    for index, (kind, count) in enumerate(zip(kinds, counts, strict=True)):
        halves = index + 1 < len(kinds)
        places.append(skip + count + (halves and kind == "DownBlock2D"))
        skip += count + halves
    return (*places, skip + 1)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
