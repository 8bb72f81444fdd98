"""Writes tensors as pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_image(x: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] as an 8-bit RGB image."""
    return Image.fromarray((x.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def save_rows(path: Path, rows: list[Tensor]) -> None:
    """Writes batches (N, 3, H, W) in [0, 1] of equal shape as the rows of one picture."""
    to_image(torch.cat([torch.cat(list(row), 2) for row in rows], 1)).save(path)


def from_image(image: Image.Image) -> Tensor:
    """An RGB image as (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).float() / 255
