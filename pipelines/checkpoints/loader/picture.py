"""An adapter for picture prompts in the published layout of IP-Adapter, with its CLIP picture encoder.

One file contains the image projection, and two matrices for every cross-attention of the UNet. A plain adapter projects the
picture's embedding; Plus and full face project the encoder's hidden states, by diffusers' own layers. FaceID is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines.checkpoints.loader.files import PICKLED, Folder, Weights, read_weights
from pipelines.values.types import ModelError, Pixels

if TYPE_CHECKING:
    from torch import Tensor, nn

PROJECTION = ("image_proj.proj.weight", "image_proj.proj.bias", "image_proj.norm.weight", "image_proj.norm.bias")
VARIANTS = (
    ("image_proj.perceiver_resampler.", "an IP-Adapter FaceID Plus"),
    ("_lora.", "an IP-Adapter FaceID"),
)
"""Part of a tensor's name → a kind of adapter that is refused: it takes the vectors of a face recognition network."""

IMAGE = "image_proj."
STATES: dict[str, tuple[str, str]] = {
    "plus": (f"{IMAGE}proj_in.weight", f"{IMAGE}norm_out.weight"),
    "full": (f"{IMAGE}proj.0.weight", f"{IMAGE}proj.3.weight"),
}
"""Kinds that project hidden states → tensors whose last number is the width of a hidden state, and of a token."""

Kind = Literal["plain", "plus", "full"]

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
        self.kind = self._kind(shapes)
        taken, made = (PROJECTION[0], PROJECTION[2]) if self.kind == "plain" else STATES[self.kind]
        if shapes[made] != (width,) or (self.kind == "plain" and shapes[taken][0] % width):
            raise ModelError(
                f"{self.name}: is for another model: its tokens have {shapes[made][0]} numbers, the UNet takes {width}"
            )
        self._folder, self.config = self._encoder_of(encoder, shapes[taken][1])
        self._encoder = self._folder.weights("")
        self.tokens = self._count(shapes, width)

    def _kind(self, shapes: Mapping[str, tuple[int, ...]]) -> Kind:
        """Raises ModelError for a kind that is not supported, and for tensors that no kind has, or lacks."""
        if kind := next((kind for part, kind in VARIANTS if any(part in name for name in shapes)), None):
            raise ModelError(
                f"{self.name}: is {kind}, which takes vectors of the face recognition insightface; supported are plain "
                "IP-Adapters, Plus and full face"
            )
        found: Kind = "plain"
        if f"{IMAGE}latents" in shapes:
            found = "plus"
        elif STATES["full"][1] in shapes:
            found = "full"
        wanted = PROJECTION if found == "plain" else STATES[found]
        missing = [name for name in wanted if name not in shapes or not shapes[name]]
        known = PROJECTION if found == "plain" else [name for name in shapes if name.startswith(IMAGE)]
        strangers = [name for name in shapes if name not in known and not _is_attention(name)]
        if missing or strangers:
            what = f"holds {strangers[0]!r}" if strangers else f"lacks {missing[0]!r}"
            raise ModelError(f"{self.name}: {what}; supported are plain IP-Adapters, Plus and full face")
        return found

    def _count(self, shapes: Mapping[str, tuple[int, ...]], width: int) -> int:
        """The number of tokens of a picture."""
        if self.kind == "plain":
            return shapes[PROJECTION[0]][0] // width
        if self.kind == "plus":
            return shapes[f"{IMAGE}latents"][1]
        return (int(self.config.get("image_size", 224)) // int(self.config.get("patch_size", 32))) ** 2 + 1  # each hidden state

    def _encoder_of(self, beside: Path, size: int) -> tuple[Folder, dict[str, Any]]:
        """The folder of the picture encoder that makes `size` numbers, and its configuration: the one beside the adapter, or, as
        in the published repository, that in models/ beside the adapter's folder. Raises ModelError."""
        field = "projection_dim" if self.kind == "plain" else "hidden_size"
        found = []
        for place in (beside, beside.parent.parent / "models" / beside.name):
            if place.is_dir():
                folder = Folder(place)
                config = folder.json("config.json")
                if config.get(field) == size:
                    return folder, config
                found.append(f"{place.parent.name}/{place.name} makes {config.get(field)}")
        if not found:
            raise ModelError(
                f"{self.name}: there is no picture encoder beside it; put the folder {beside.name} of its repository there, or "
                "name it: +encoder=FOLDER"
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
        """Raises ModelError if the matrices do not fit the UNet, which may be on the meta device, or the projection itself."""
        import torch

        self._pairs(unet)
        if self.kind != "plain":
            with torch.device("meta"):
                self._projection({name: torch.empty(info.shape) for name, info in self.weights.tensors.items()})

    def _pairs(self, unet: Any) -> dict[str, list[str]]:
        """Cross-attention of the UNet → names of its two matrices. Raises ModelError if they do not fit."""
        found: dict[str, list[str]] = {}
        used = {name for name in self.weights.tensors if name.startswith(IMAGE)}
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

        projection = self._projection(networks.read(self.weights))
        model = networks.clip_encoder("CLIPVisionModelWithProjection", self.config, self._encoder, self._folder.name)
        side = int(self.config.get("image_size", 224))

        @torch.inference_mode()
        def encode(picture: Pixels) -> tuple[Tensor, Tensor]:
            embedding = model(pixel_values=view(picture, side)[None]).image_embeds[0].float()
            return projection(embedding), projection(torch.zeros_like(embedding))

        @torch.inference_mode()
        def encode_states(picture: Pixels) -> tuple[Tensor, Tensor]:
            seen = view(picture, side)
            both = model(pixel_values=torch.stack([seen, torch.zeros_like(seen)]), output_hidden_states=True).hidden_states[-2]
            tokens, none = projection(both.float())
            return tokens, none

        return encode if self.kind == "plain" else encode_states

    def _projection(self, tensors: Mapping[str, Tensor]) -> nn.Module:
        """The layers from what the picture encoder makes to tokens, in float32. Raises ModelError for unfit tensors."""
        from diffusers import UNet2DConditionModel

        from pipelines.checkpoints.loader import networks
        from pipelines.networks.picture_prompt import Projection

        if self.kind == "plain":
            return Projection(*(tensors[name] for name in PROJECTION))
        convert: Any = UNet2DConditionModel._convert_ip_adapter_image_proj_to_diffusers  # its names are nowhere else
        given = {name.removeprefix(IMAGE): tensor for name, tensor in tensors.items() if name.startswith(IMAGE)}
        try:
            made: nn.Module = convert(None, given, low_cpu_mem_usage=False)
        except networks.LOADING_ERRORS as error:
            raise ModelError(f"{self.name}: its projection does not fit an IP-Adapter: {str(error).splitlines()[0]}") from error
        return made.eval().requires_grad_(False)

    def _matrix(self, name: str, wanted: tuple[int, ...]) -> str:
        if name not in self.weights.tensors:
            raise ModelError(f"{self.name}: is for another model: it lacks {name!r}")
        shape = self.weights.tensors[name].shape
        if shape != wanted:
            raise ModelError(f"{self.name}: is for another model: {name} has shape {list(shape)}, not {list(wanted)}")
        return name


def _is_attention(name: str) -> bool:
    return name.startswith("ip_adapter.") and name.endswith((".to_k_ip.weight", ".to_v_ip.weight"))
