"""An adapter for picture prompts in the published layout of IP-Adapter, with its CLIP picture encoder.

One file contains the image projection, and two matrices for every cross-attention of the UNet. Variants with more than one
picture embedding are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.checkpoints.loader.files import PICKLED, Folder, Weights, read_weights
from pipelines.values.types import ModelError, Pixels

if TYPE_CHECKING:
    from torch import Tensor

PROJECTION = ("image_proj.proj.weight", "image_proj.proj.bias", "image_proj.norm.weight", "image_proj.norm.bias")
VARIANTS = (
    ("image_proj.perceiver_resampler.", "an IP-Adapter FaceID Plus"),
    ("_lora.", "an IP-Adapter FaceID"),
    ("image_proj.proj.0.", "an IP-Adapter full face, or FaceID"),
    ("image_proj.latents", "an IP-Adapter Plus"),
)
"""Part of a tensor's name → the kind of adapter."""

CROSS = "attn2.processor"

PictureEncoder = Callable[[Pixels], "tuple[Tensor, Tensor]"]
"""A picture, uint8 [height, width, 3], to (its tokens, the tokens of no picture), [T, D] each."""


class PictureFiles:
    """An adapter and its picture encoder on disk, with headers checked against the UNet's configuration. Raises ModelError.

    path: a .safetensors file, or a folder with one. encoder: the folder with config.json and weights.
    """

    def __init__(self, path: Path, encoder: Path, unet_config: dict[str, Any]) -> None:
        self.name = path.name
        if path.suffix in PICKLED:
            raise ModelError(f"{self.name}: is pickled, and reading a pickle may run code; only .safetensors files are loaded")
        self.weights: Weights = Folder(path).weights("") if path.is_dir() else read_weights([path], self.name)
        width = int(unet_config["cross_attention_dim"])
        shapes = {name: info.shape for name, info in self.weights.tensors.items()}
        if kind := next((kind for part, kind in VARIANTS if any(part in name for name in shapes)), None):
            raise ModelError(f"{self.name}: is {kind}; only plain IP-Adapters are supported")
        strangers = [name for name in shapes if name not in PROJECTION and not _is_attention(name)]
        missing = [name for name in PROJECTION if name not in shapes]
        if missing or strangers:
            what = f"holds {strangers[0]!r}" if strangers else f"lacks {missing[0]!r}"
            raise ModelError(f"{self.name}: {what}; only plain IP-Adapters are supported, not the plus, full and face kinds")
        self.tokens, rest = divmod(shapes[PROJECTION[0]][0], width)
        if rest or shapes[PROJECTION[2]] != (width,):
            raise ModelError(
                f"{self.name}: is for another model: its tokens have {shapes[PROJECTION[2]][0]} numbers, the UNet takes {width}"
            )
        self._folder, self.config = self._encoder_of(encoder, shapes[PROJECTION[0]][1])
        self._encoder = self._folder.weights("")

    def _encoder_of(self, beside: Path, size: int) -> tuple[Folder, dict[str, Any]]:
        """The folder of the picture encoder that makes `size` numbers, and its configuration: the one beside the adapter, or, as
        in the published repository, that in models/ beside the adapter's folder. Raises ModelError."""
        found = []
        for place in (beside, beside.parent.parent / "models" / beside.name):
            if place.is_dir():
                folder = Folder(place)
                config = folder.json("config.json")
                if config.get("projection_dim") == size:
                    return folder, config
                found.append(f"{place.parent.name}/{place.name} makes {config.get('projection_dim')}")
        if not found:
            raise ModelError(
                f"{self.name}: there is no picture encoder beside it; put the folder {beside.name} of its repository there"
            )
        raise ModelError(f"{self.name}: is for another picture encoder: it takes {size} numbers, {', '.join(found)}")

    @property
    def encoder_files(self) -> tuple[Path, ...]:
        """The weight files of the picture encoder."""
        return self._encoder.files

    def install(self, unet: Any) -> None:
        """Set the two matrices of every cross-attention of the UNet, in its dtype. Raises ModelError if they do not fit."""
        from pipelines.checkpoints.loader import networks
        from pipelines.networks.picture_prompt import PictureAttention

        tensors, dtype = networks.read(self.weights), next(unet.parameters()).dtype
        for name, pair in self._pairs(unet).items():
            processor = PictureAttention(self.tokens, *(tensors[matrix].to(dtype) for matrix in pair))
            unet.get_submodule(name).set_processor(processor)

    def check(self, unet: Any) -> None:
        """Raises ModelError if the matrices do not fit the UNet, which may be on the meta device."""
        self._pairs(unet)

    def _pairs(self, unet: Any) -> dict[str, list[str]]:
        """Cross-attention of the UNet → names of its two matrices. Raises ModelError if they do not fit."""
        found: dict[str, list[str]] = {}
        used = set(PROJECTION)
        for index, name in enumerate(unet.attn_processors):
            if name.endswith(CROSS):
                attention = name.removesuffix(".processor")
                wanted = tuple(unet.get_submodule(attention).get_parameter("to_k.weight").shape)
                found[attention] = [self._matrix(f"ip_adapter.{index}.to_{side}_ip.weight", wanted) for side in "kv"]
                used.update(found[attention])
        if rest := sorted(self.weights.tensors.keys() - used):
            raise ModelError(f"{self.name}: is for another model: the UNet has no place for {rest[0]!r}")
        return found

    def encoder(self) -> PictureEncoder:
        """Load the picture encoder. Slow. Raises ModelError."""
        import torch

        from pipelines.checkpoints.loader import networks
        from pipelines.checkpoints.loader.clip_view import view
        from pipelines.networks.picture_prompt import Projection

        tensors = networks.read(self.weights)
        projection = Projection(*(tensors[name] for name in PROJECTION))
        model = networks.clip_encoder("CLIPVisionModelWithProjection", self.config, self._encoder, self._folder.name)
        side = int(self.config.get("image_size", 224))

        @torch.inference_mode()
        def encode(picture: Pixels) -> tuple[Tensor, Tensor]:
            embedding = model(pixel_values=view(picture, side)[None]).image_embeds[0].float()
            return projection(embedding), projection(torch.zeros_like(embedding))

        return encode

    def _matrix(self, name: str, wanted: tuple[int, ...]) -> str:
        if name not in self.weights.tensors:
            raise ModelError(f"{self.name}: is for another model: it lacks {name!r}")
        shape = self.weights.tensors[name].shape
        if shape != wanted:
            raise ModelError(f"{self.name}: is for another model: {name} has shape {list(shape)}, not {list(wanted)}")
        return name


def _is_attention(name: str) -> bool:
    return name.startswith("ip_adapter.") and name.endswith((".to_k_ip.weight", ".to_v_ip.weight"))
