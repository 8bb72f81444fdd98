"""The published safety checker of Stable Diffusion: compares a picture's CLIP embedding with seventeen unwanted concepts.

Its authors state that it misses some pictures and blocks others by mistake. It checks finished pictures, not prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pipelines.checkpoints.loader import networks
from pipelines.checkpoints.loader.clip_view import view
from pipelines.checkpoints.loader.files import Folder
from pipelines.checkpoints.loader.hub import locate
from pipelines.checkpoints.registry import SD15
from pipelines.values.models import HUB_ID, Hub
from pipelines.values.types import ModelError, Pixels

PUBLISHED = f"{SD15.repo}@{SD15.revision}"
"""The checker in safetensors format; its own repository has only a pickled file."""

FILES = ("safety_checker/config.json", "safety_checker/model.safetensors", "feature_extractor/preprocessor_config.json")


class SafetyChecker:
    """Decides which pictures to hide. Slow to construct; a call runs one ViT-L/14 for each picture.

    name: a folder with safety_checker/ and feature_extractor/, as in published pipelines, or a hub id. Raises ModelError.
    """

    def __init__(self, name: str = PUBLISHED, device: str = "cpu", offline: bool = False) -> None:
        folder = Folder(_find(name, offline))
        config = folder.json("feature_extractor/preprocessor_config.json")
        size = config.get("crop_size", 224)
        self._side = int(size["height"] if isinstance(size, dict) else size)
        try:
            self._mean = tuple(float(value) for value in config["image_mean"])
            self._std = tuple(float(value) for value in config["image_std"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{folder.name}/feature_extractor/preprocessor_config.json: lacks a mean and deviation") from error
        self._device = torch.device(device)
        weights = folder.weights("safety_checker")
        described = folder.json("safety_checker/config.json")
        self._model = networks.safety_checker(described, weights, f"{folder.name}/safety_checker", self._side).to(self._device)

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Pixels]) -> list[bool]:
        """True for each picture, uint8 [height, width, 3], that is to be hidden."""
        seen = torch.stack([view(picture, self._side, self._mean, self._std) for picture in pictures]).to(self._device)
        blank = [np.zeros(1) for _ in pictures]  # the model blackens these instead of the pictures
        return [bool(flag) for flag in self._model(clip_input=seen, images=blank)[1]]


def _find(name: str, offline: bool) -> Path:
    path = Path(name).expanduser()
    found = HUB_ID.fullmatch(name)
    if path.exists() or found is None:
        return path
    places = [locate(Hub(found[1], found[2], file), offline) for file in FILES]
    return places[0].parent.parent
