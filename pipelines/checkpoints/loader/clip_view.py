"""A picture as CLIP's picture encoders take it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipelines.values.types import Pixels

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training pictures, per channel
STD = (0.26862954, 0.26130258, 0.27577711)


def view(picture: Pixels, side: int, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    """The middle of a picture as CLIP's input [3, side, side], normalised by mean and deviation per channel.

    Exactly as CLIP's own image processor: Pillow's bicubic resize to whole grey levels, the long side rounded down.
    """
    height, width = picture.shape[:2]
    short = min(height, width)
    size = (side * width // short, side * height // short)
    resized = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    top, left = (size[1] - side) // 2, (size[0] - side) // 2
    x = torch.from_numpy(resized[top : top + side, left : left + side].astype(np.float32)).permute(2, 0, 1) / 255
    middle, spread = (torch.tensor(values)[:, None, None] for values in (mean, std))
    return (x - middle) / spread
