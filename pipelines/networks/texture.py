"""What a picture is like in brushwork and texture: the first convolutions of a published network, and their statistics.

Gram matrices of such features are the style of a picture (Gatys, Ecker, Bethge 2015, "A neural algorithm of artistic style",
arXiv:1508.06576). The weights are those of HED's trunk (VGG16), up to the first convolution of its third block.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = ((3, 64, 64), (64, 128, 128), (128, 256))
MEAN = (122.67892, 116.66877, 104.00699)  # RGB of 255, of what the weights expect


class Texture(nn.Module):
    """Pictures [B, 3, H, W] in [-1, 1] to features [B, C, H/2^k, W/2^k], one of each block, after its last ReLU."""

    def __init__(self, widths: Sequence[Sequence[int]] = BLOCKS) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(block)) for block in widths)

    def forward(self, picture: Tensor) -> list[Tensor]:
        h = (picture + 1) * 127.5 - picture.new_tensor(MEAN).reshape(1, 3, 1, 1)
        found = []
        for k, block in enumerate(self.blocks):
            h = F.max_pool2d(h, 2) if k else h
            for conv in block:  # type: ignore[attr-defined]
                h = F.relu(conv(h))
            found.append(h)
        return found


def gram(feature: Tensor) -> Tensor:
    """[B, C, H, W] to [B, C, C]: the mean over places of products of channels, in float32."""
    flat = feature.float().flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]
