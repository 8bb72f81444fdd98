"""A checkpoint folder in the diffusers layout: its parts, their classes, and the modules made from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.checkpoints.loader import identify, scheduler
from pipelines.checkpoints.loader.configs import AUTOENCODERS, pools_text
from pipelines.checkpoints.loader.files import Folder, Weights
from pipelines.values.types import ModelError

if TYPE_CHECKING:
    from torch import nn

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
SECOND = ("text_encoder_2", "tokenizer_2")
CLASSES: dict[str, tuple[str, ...]] = {
    "unet": ("UNet2DConditionModel",),
    "vae": AUTOENCODERS,
    "text_encoder": ("CLIPTextModel",),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "painter": ("Painter", "TrunkPainter"),
    "style_reader": ("StyleReader",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
"""The allowed classes of each part. A scheduler may have any class: only its configuration is read, as data."""


class FolderCheckpoint:
    """A folder with checked layout, classes and headers; no weights are loaded yet. Raises ModelError."""

    def __init__(self, path: Path, needs_autoencoder: bool = True) -> None:
        if not path.is_dir():
            raise ModelError(f"{path}: no such model folder")
        self.folder = Folder(path)
        self.name = self.folder.name
        self.index = self._read_index()
        has_vae = self.folder.has("vae/config.json") and not identify.absent(self.index.get("vae"))
        if needs_autoencoder and not has_vae and not self.folder.has("vae"):
            raise ModelError(f"{self.name}: contains no autoencoder (vae/); add one by +vae=FILE, +taesd or +taesdxl")
        parts = [part for part in PARTS if part != "vae" or needs_autoencoder or has_vae]
        for part in parts:
            self._check_part(part)
        networks = [part for part in parts if part in ("unet", "vae", "text_encoder")]
        self.configs = {part: self.folder.json(f"{part}/config.json") for part in networks}
        config = self.folder.json("scheduler/scheduler_config.json")
        self.scheduler = scheduler.completed(config, self.index["scheduler"][1], f"{self.name}/scheduler_config.json")
        if pools_text(self.configs["unet"]):
            for part in SECOND:
                self._check_part(part)
            self.configs["text_encoder_2"] = self.folder.json("text_encoder_2/config.json")
        for part in ("painter", "style_reader"):
            if self.folder.has(f"{part}/config.json"):
                self.configs[part] = self.folder.json(f"{part}/config.json")
        for part, config in self.configs.items():
            self._check_class(part, config)
            identify.check_quantised(config, f"{self.name}/{part}")
        self.weights = {part: self.folder.weights(part) for part in self.configs}
        for part, weights in self.weights.items():
            identify.check_dtypes(weights.tensors, f"{self.name}/{part}")

    @property
    def empty_is_zero(self) -> bool:
        """Whether an absent negative prompt is an embedding of zeros instead of the empty text's (SDXL)."""
        return bool(self.index.get("force_zeros_for_empty_prompt", False))

    def files(self, part: str) -> Iterator[Path]:
        yield from self.weights[part].files

    def digest(self, part: str) -> bytes:
        return hashlib.sha256(json.dumps(self.configs.get(part), sort_keys=True).encode()).digest()

    def network(self, part: str) -> nn.Module:
        """The network of a part: unet, vae, painter or style_reader."""
        from pipelines.checkpoints.loader import networks

        kind = str(self.configs[part]["_class_name"])
        return networks.build(kind, self.configs[part], networks.read(self.weights[part]), f"{self.name}/{part}")

    def text_digest(self, part: str) -> bytes:
        """Changes with the configuration and the tokenizer of text_encoder or text_encoder_2."""
        digest = hashlib.sha256(self.digest(part))
        for path in sorted(self.folder.path(_tokenizer(part)).glob("*")):
            digest.update(path.name.encode() + path.read_bytes())
        return digest.digest()

    def tokenizer(self, part: str) -> Any:
        """transformers' tokenizer of text_encoder or text_encoder_2."""
        from pipelines.checkpoints.loader import vocabulary

        return vocabulary.read_tokenizer(self.folder, _tokenizer(part))

    def text_encoder(self, part: str) -> tuple[Any, nn.Module]:
        """(tokenizer, encoder in float32) of text_encoder or text_encoder_2."""
        from pipelines.checkpoints.loader import networks

        kind = CLASSES[part][0]
        return self.tokenizer(part), networks.clip_encoder(kind, self.configs[part], self.weights[part], f"{self.name}/{part}")

    def _read_index(self) -> dict[str, Any]:
        """model_index.json. Raises ModelError, which says what the folder is, if Rill does not run it."""
        names = _names(self.folder, "")
        if not self.folder.has("model_index.json"):
            config = self.folder.json("config.json") if self.folder.has("config.json") else {}
            raise ModelError(f"{self.name}: has no model_index.json; {identify.of_folder(names, config)}")
        index = self.folder.json("model_index.json")
        inside = [name for part in ("unet", "transformer", "vae_decoder") for name in _names(self.folder, part)]
        identify.check_index(index, [*names, *inside], self.name)
        return index

    def _check_part(self, part: str) -> None:
        entry = self.index.get(part)
        if entry is None:
            raise ModelError(f"{self.name}/model_index.json: has no entry {part!r}")
        if not (isinstance(entry, list) and len(entry) == 2):
            raise ModelError(f"{self.name}/model_index.json: {part} is not a pair of library and class")
        if part in CLASSES and entry[1] is not None and entry[1] not in CLASSES[part]:
            raise ModelError(f"{self.name}/model_index.json: {part}: {entry[1]!r} is not one of {', '.join(CLASSES[part])}")
        if not self.folder.has(part):
            name = {"scheduler": "scheduler_config.json"}.get(part, "config.json")
            raise ModelError(
                f"{self.name}/{part}/{name}: is missing" if "tokenizer" not in part else f"{self.name}/{part}: is missing"
            )

    def _check_class(self, part: str, config: dict[str, Any]) -> None:
        if part.startswith("text_encoder"):
            architectures = config.get("architectures") or [CLASSES[part][0]]
            config.setdefault("_class_name", architectures[0])
        kind = config.get("_class_name")
        if kind not in CLASSES[part]:
            raise ModelError(f"{self.name}/{part}/config.json: {kind!r} is not one of {', '.join(CLASSES[part])}")


def _names(folder: Folder, part: str) -> list[str]:
    path = folder.path(part)
    return [entry.name for entry in path.iterdir()] if path.is_dir() else []


def _tokenizer(part: str) -> str:
    return part.replace("text_encoder", "tokenizer")


def summarise(weights: Weights) -> str:
    """ "3.4 GB, F16, 2 files"."""
    files = f", {len(weights.files)} files" if len(weights.files) > 1 else ""
    return f"{weights.bytes / 1e9:.2f} GB, {weights.dtype}{files}"
