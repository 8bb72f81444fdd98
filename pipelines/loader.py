"""Folders in the diffusers layout, safetensors only, to the parts an engine is made of.

The only module that imports diffusers' and transformers' loaders. Everything is checked before anything is loaded: the
layout, that every file stays inside the folder, that no pickled weights are needed. Parts are loaded on first use: with
graphs cached on disk a start reads no UNet weights at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pipelines import schedule
from pipelines.models import ModelInfo
from pipelines.types import ModelError

AUTOENCODERS = ("PocketAutoencoder", "AutoencoderKL", "AutoencoderTiny")
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
TIME_IDS = 6  # original height and width, top and left of the crop, target height and width
SPATIAL_FACTOR = 8  # pixels per latent cell, in every model of the Stable Diffusion kind
HASHED_WHOLE = 256 * 2**20  # larger weight files are told apart by size, time and header


@dataclass
class ModelParts:
    """A checked model folder. Raises ModelError, naming the file or field, from the constructor or from the part that is
    broken.
    """

    info: ModelInfo
    index: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.folder = self.info.path
        if not self.folder.is_dir():
            raise ModelError(f"{self.folder}: no such model folder")
        self.index = self._json("model_index.json")
        for part in PARTS:
            if part not in self.index:
                raise ModelError(f"{self.folder.name}/model_index.json: has no entry {part!r}")
            self._inside(part)
        kind = self.index["vae"][-1] if isinstance(self.index["vae"], list) else None
        self.vae_class = kind or self._json("vae/config.json").get("_class_name")
        if self.vae_class not in AUTOENCODERS:
            raise ModelError(f"vae: {self.vae_class!r} is not one of {', '.join(AUTOENCODERS)}")
        self.unet_config = self._json("unet/config.json")
        if self.unet_config.get("_class_name") != "UNet2DConditionModel":
            raise ModelError(f"unet/config.json: {self.unet_config.get('_class_name')!r} is not UNet2DConditionModel")
        for part in ("unet", "vae", "text_encoder"):
            self._weights(part)
        self.schedule = schedule.from_config(self._json("scheduler/scheduler_config.json"), self.info.trained_timesteps)

    @property
    def latent_channels(self) -> int:
        return int(self.unet_config["in_channels"])

    @property
    def size_multiple(self) -> int:
        """Width and height in pixels must be multiples of this: each level of the UNet but the last halves the latent."""
        return int(SPATIAL_FACTOR * 2 ** (len(self.unet_config["down_block_types"]) - 1))

    @property
    def vae_config(self) -> dict[str, Any]:
        return self._json("vae/config.json")

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """What will be read, beside the tokenizer."""
        return tuple(self._weights(part) for part in ("unet", "vae", "text_encoder"))

    @property
    def branches(self) -> int:
        """Re-entry points of the feature cache: one per up layer."""
        layers, blocks = self.unet_config["layers_per_block"], len(self.unet_config["up_block_types"])
        per_block = layers if isinstance(layers, list) else [layers] * blocks
        return sum(count + 1 for count in per_block)

    @cached_property
    def embedding_shape(self) -> tuple[int, int]:
        """(L, D) of a prompt embedding."""
        text = self._json("text_encoder/config.json")
        return int(text["max_position_embeddings"]), int(self.unet_config["cross_attention_dim"])

    @property
    def pooled_size(self) -> int | None:
        """P of the pooled text, None for a UNet that takes none."""
        if self.unet_config.get("addition_embed_type") != "text_time":
            return None
        times = TIME_IDS * int(self.unet_config["addition_time_embed_dim"])
        return int(self.unet_config["projection_class_embeddings_input_dim"]) - times

    @property
    def w_size(self) -> int | None:
        """W of the guidance embedding of a distilled LCM, None for a UNet without one."""
        size = self.unet_config.get("time_cond_proj_dim")
        return None if size is None else int(size)

    @property
    def added_sizes(self) -> tuple[int, ...]:
        """Sizes of the passes' added inputs, in their order: pooled text, time ids, guidance embedding."""
        text = () if self.pooled_size is None else (self.pooled_size, TIME_IDS)
        return text if self.w_size is None else (*text, self.w_size)

    def time_ids(self, width: int, height: int) -> Tensor | None:
        """SDXL's size conditions [6], for an uncropped picture of this size in pixels; None for a UNet that takes none."""
        if self.pooled_size is None:
            return None
        return torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32)

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever the weights or the configuration of the UNet or the autoencoder change."""
        digest = hashlib.sha256()
        for part in ("unet", "vae"):
            digest.update((self.folder / part / "config.json").read_bytes())
            path = self._weights(part)
            stat = path.stat()
            if stat.st_size <= HASHED_WHOLE:
                digest.update(path.read_bytes())
            else:
                with path.open("rb") as file:
                    digest.update(file.read(2**20))
                digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
        return digest.hexdigest()[:20]

    @cached_property
    def unet(self) -> nn.Module:
        from diffusers import UNet2DConditionModel

        return self._load("unet", UNet2DConditionModel)

    @cached_property
    def vae(self) -> nn.Module:
        if self.vae_class == "PocketAutoencoder":
            from pipelines.autoencoder import PocketAutoencoder

            return self._load("vae", PocketAutoencoder)
        import diffusers

        return self._load("vae", getattr(diffusers, str(self.vae_class)))

    @cached_property
    def encode_prompt(self) -> Callable[[str], tuple[Tensor, ...]]:
        """Prompt to the text encoder's last hidden state, float32 [L, D]. Words past the context length are cut."""
        from transformers import CLIPTextModel, CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(self.folder / "tokenizer", local_files_only=True)
        encoder = self._load("text_encoder", CLIPTextModel)
        length = self.embedding_shape[0]

        @torch.inference_mode()
        def encode(prompt: str) -> tuple[Tensor, ...]:
            ids = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
            return (encoder(ids).last_hidden_state[0].float(),)

        return encode

    def _load(self, part: str, cls: Any) -> nn.Module:
        options = {"local_files_only": True, "use_safetensors": True}
        _quiet()
        try:
            module = cls.from_pretrained(self.folder / part, torch_dtype=torch.float32, **options)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
            raise ModelError(f"{self.folder.name}/{part}: cannot be loaded: {error}") from error
        return module.eval().requires_grad_(False)

    def _weights(self, part: str) -> Path:
        folder = self._inside(part)
        found = sorted(folder.glob("*.safetensors"))
        if not found:
            pickled = [path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt")]
            reason = f"only pickled weights ({pickled[0]}), which are refused" if pickled else "no .safetensors file"
            raise ModelError(f"{self.folder.name}/{part}: {reason}")
        return self._inside(f"{part}/{found[0].name}")

    def _json(self, name: str) -> dict[str, Any]:
        path = self._inside(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(f"{self.folder.name}/{name}: is missing") from None
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.folder.name}/{name}: is not readable JSON: {error}") from error
        if not isinstance(content, dict):
            raise ModelError(f"{self.folder.name}/{name}: is not a JSON object")
        return content

    def _inside(self, name: str) -> Path:
        root = self.folder.resolve()
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise ModelError(f"{self.folder.name}/{name}: leads out of the model folder")
        return path


def _quiet() -> None:
    """No progress bars and notices of the libraries between our own lines; errors still come as exceptions."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
