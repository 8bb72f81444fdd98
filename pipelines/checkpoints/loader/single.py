"""A single .safetensors file in the original Stable Diffusion layout, the format of most fine-tunes.

Such a file contains weights only. Its tensors determine the family; the family's configuration and vocabulary ship with Rill
(assets/layouts), so no network access is needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.checkpoints.loader import gguf_file, identify, scheduler
from pipelines.checkpoints.loader.configs import MERGES, RUNS, pools_text
from pipelines.checkpoints.loader.files import TensorInfo, read_weights
from pipelines.checkpoints.loader.unet_config import CHANNELS, beside
from pipelines.values.models import ASSETS
from pipelines.values.reader import read_json
from pipelines.values.types import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

LAYOUTS = {family: ASSETS / "layouts" / family for family in ("sd15", "sd21", "sdxl")}
"""Folders with each family's configuration, in the diffusers layout without weights."""

UNET = "model.diffusion_model."
LATENTS = 4  # channels
CROSS_ATTENTION = (
    "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
    "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
)
ENCODERS = {"cond_stage_model.transformer.": "sd15", "cond_stage_model.model.": "sd21", "conditioner.embedders.1.model.": "sdxl"}


class SingleFileCheckpoint:
    """A file with a checked header and a known family; no weights are loaded yet. Raises ModelError."""

    def __init__(self, path: Path, prediction: str | None = None, needs_autoencoder: bool = True) -> None:
        if not path.is_file():
            raise ModelError(f"{path}: no such model file")
        if path.suffix == gguf_file.SUFFIX:
            raise ModelError(
                f"{path.name}: is a GGUF file; Rill reads the UNet of one, beside a whole model: MODEL+unet={path.name}"
            )
        if path.suffix != ".safetensors":
            raise ModelError(f"{path.name}: only .safetensors files are loaded; opening other files may run code")
        self.name, self.path = path.name, path
        self.file = read_weights([path], path.name)
        self.family = family_of(self.file.tensors, self.name, needs_autoencoder)
        layout = LAYOUTS[self.family]
        self.layout = layout
        parts = ("unet", "vae", "text_encoder") + (("text_encoder_2",) if self.family == "sdxl" else ())
        self.configs = {part: read_json(layout / part / "config.json", f"{self.family}/{part}/config.json") for part in parts}
        self.configs["unet"]["in_channels"] = self.file.tensors[f"{UNET}input_blocks.0.0.weight"].shape[1]
        standard = read_json(layout / "scheduler" / "scheduler_config.json", f"{self.family}/scheduler")
        self.scheduler = scheduler.of_single_file(standard, self.file, self.family, prediction, self.name)
        self.configs["vae"] |= scheduler.latent_statistics(self.file, int(self.configs["vae"]["latent_channels"]), self.name)
        self.index: dict[str, Any] = {"_class_name": "single file"}

    @property
    def empty_is_zero(self) -> bool:
        return self.family == "sdxl"

    def files(self, part: str) -> Iterator[Path]:
        yield from self.file.files

    def digest(self, part: str) -> bytes:
        return hashlib.sha256(json.dumps(self.configs[part], sort_keys=True).encode()).digest()

    def network(self, part: str) -> nn.Module:
        """unet or vae, in the file's own dtype."""
        from pipelines.checkpoints.loader import networks

        config = self.configs[part]
        tensors = self._converted(part, networks.read(self.file))
        return networks.build(str(config["_class_name"]), config, tensors, f"{self.name}: {part}")

    def shapes(self, part: str) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors of unet or vae by their names in diffusers, from the header alone. Raises ModelError."""
        import torch

        stand_ins = {name: torch.empty(info.shape, device="meta") for name, info in self.file.tensors.items()}
        return {name: tuple(tensor.shape) for name, tensor in self._converted(part, stand_ins).items()}

    def _converted(self, part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return converted(part, tensors, self.configs[part], self.name)

    def text_digest(self, part: str) -> bytes:
        """Changes with the configuration of text_encoder or text_encoder_2; the vocabulary ships with the code."""
        return hashlib.sha256(self.digest(part) + self.family.encode() + MERGES.read_bytes()).digest()

    def tokenizer(self, part: str) -> Any:
        """transformers' tokenizer of text_encoder or text_encoder_2."""
        from pipelines.checkpoints.loader import vocabulary

        pads_with_zero = part == "text_encoder_2" or self.family == "sd21"
        length = int(self.configs[part]["max_position_embeddings"])
        return vocabulary.tokenizer(self.layout, length, "!" if pads_with_zero else "<|endoftext|>")

    def text_encoder(self, part: str) -> tuple[Any, nn.Module]:
        """(tokenizer, encoder in float32) of text_encoder or text_encoder_2."""
        import torch
        import transformers
        from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm

        from pipelines.checkpoints.loader import networks

        networks.quiet()
        cls = getattr(transformers, "CLIPTextModelWithProjection" if part == "text_encoder_2" else "CLIPTextModel")
        try:
            module = create_diffusers_clip_model_from_ldm(
                cls,
                networks.read(self.file),
                subfolder=part,
                config=str(self.layout),
                torch_dtype=torch.float32,
                local_files_only=True,
            )
        except networks.LOADING_ERRORS as error:
            raise ModelError(f"{self.name}: its {part} cannot be converted: {error}") from error
        empty = [name for name, value in module.state_dict().items() if value.is_meta]
        if empty:
            raise ModelError(f"{self.name}: its {part} misses {empty[0]}")
        return self.tokenizer(part), module.eval().requires_grad_(False)


def usual_autoencoder(unet_config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the autoencoder of a UNet's family, for a checkpoint without one."""
    family = "sdxl" if pools_text(unet_config) else "sd15"
    return read_json(LAYOUTS[family] / "vae" / "config.json", f"{family}/vae/config.json")


def converted(part: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any], label: str) -> dict[str, Tensor]:
    """The tensors of unet or vae in the original layout by their names in diffusers, by its own conversion. Raises ModelError."""
    from diffusers.loaders import single_file_utils

    from pipelines.checkpoints.loader import networks

    convert = {"unet": single_file_utils.convert_ldm_unet_checkpoint, "vae": single_file_utils.convert_ldm_vae_checkpoint}
    networks.quiet()
    try:
        renamed: dict[str, Tensor] = convert[part](dict(tensors), config)
    except networks.LOADING_ERRORS as error:
        raise ModelError(f"{label}: its {part} cannot be converted: {error}") from error
    return renamed


def family_of(tensors: Mapping[str, TensorInfo], name: str, needs_autoencoder: bool = True) -> str:
    """sd15, sd21 or sdxl. Raises ModelError with a guess of what else the file is."""
    families = [family for prefix, family in ENCODERS.items() if any(key.startswith(prefix) for key in tensors)]
    entry = tensors.get(f"{UNET}input_blocks.0.0.weight")
    if not families or entry is None:
        raise ModelError(f"{name}: is not a whole Stable Diffusion 1, 2 or XL model; {identify.of_tensors(tensors)}")
    identify.check_dtypes(tensors, name)
    channels = entry.shape[1] if len(entry.shape) > 1 else 0
    try:
        beside(channels, LATENTS)
    except ValueError:
        what = CHANNELS.get(channels, "another kind of model")
        raise ModelError(
            f"{name}: its UNet takes {channels} channels: it is {what}; {RUNS}, whose UNets take 4, 8 or 9"
        ) from None
    family = families[-1]
    config = read_json(LAYOUTS[family] / "unet" / "config.json", f"{family}/unet/config.json")
    width = next((tensors[UNET + key].shape[1] for key in CROSS_ATTENTION if UNET + key in tensors), None)
    if width != config["cross_attention_dim"] or entry.shape[0] != config["block_out_channels"][0]:
        raise ModelError(
            f"{name}: looks like {family}, but its UNet has other sizes (cross-attention {width}, {entry.shape[0]} channels)"
        )
    if needs_autoencoder and not any(key.startswith("first_stage_model.") for key in tensors):
        raise ModelError(f"{name}: contains no autoencoder (first_stage_model.*); add one by +vae=FILE, +taesd or +taesdxl")
    return family
