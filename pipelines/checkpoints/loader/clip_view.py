"""A picture as CLIP's picture encoders take it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.values.types import Pixels

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training pictures, per channel
STD = (0.26862954, 0.26130258, 0.27577711)


def view(picture: Pixels, side: int, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    """The middle of a picture as CLIP's input [3, side, side], normalised by mean and deviation per channel."""
    x = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None] / 255
    height, width = x.shape[2:]
    scale = side / min(height, width)
    size = (max(side, round(height * scale)), max(side, round(width * scale)))
    x = F.interpolate(x, size, mode="bicubic", antialias=True).clamp(0, 1)[0]
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    middle, spread = (torch.tensor(values)[:, None, None] for values in (mean, std))
    return (x[:, top : top + side, left : left + side] - middle) / spread
