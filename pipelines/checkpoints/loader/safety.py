"""The published safety checker of Stable Diffusion: CLIP's view of a picture against seventeen concepts that it shall not show.

It misses things and sees things that are not there; its authors say so. It looks at finished pictures, not at prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pipelines.checkpoints.loader import networks
from pipelines.checkpoints.loader.files import Folder
from pipelines.checkpoints.loader.hub import locate
from pipelines.checkpoints.loader.picture import view
from pipelines.checkpoints.registry import SD15
from pipelines.values.models import HUB_ID, Hub
from pipelines.values.types import ModelError, Pixels

PUBLISHED = f"{SD15.repo}@{SD15.revision}"
"""Where the checker lies in safetensors; its own repository holds a pickled file."""

FILES = ("safety_checker/config.json", "safety_checker/model.safetensors", "feature_extractor/preprocessor_config.json")


class SafetyChecker:
    """Says of pictures whether they are to be hidden. Slow to make; a call costs one ViT-L/14 per picture.

    name: a folder that holds safety_checker/ and feature_extractor/, as published pipelines do, or a hub id. Raises ModelError.
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
        """True for each picture, uint8 [height, width, 3], that shows what it should not."""
        seen = torch.stack([view(picture, self._side, self._mean, self._std) for picture in pictures]).to(self._device)
        blank = [np.zeros(1) for _ in pictures]  # what the model would blacken itself
        return [bool(flag) for flag in self._model(clip_input=seen, images=blank)[1]]


def _find(name: str, offline: bool) -> Path:
    path = Path(name).expanduser()
    found = HUB_ID.fullmatch(name)
    if path.exists() or found is None:
        return path
    places = [locate(Hub(found[1], found[2], file), offline) for file in FILES]
    return places[0].parent.parent
