"""How alike two pictures are, whole and by tile, for batches that are on a device already.

The gate itself decides in host memory, on thumbnails, before a picture is uploaded at all (pipelines/gate.py); this is the same
measure for pictures that arrive on the device without passing the host.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.dispatch import takes


def similarity_reference(a: Tensor, b: Tensor, tiles: int) -> tuple[Tensor, Tensor]:
    """What `similarity` computes."""
    rows, height, width, _ = a.shape
    a, b = a.float() / 255, b.float() / 255
    products = [(x * y).flatten(1).sum(1) for x, y in ((a, a), (b, b), (a, b))]
    change = (a - b).abs().reshape(rows, tiles, height // tiles, tiles, width // tiles, 3).mean((2, 4, 5))
    return cosine(*products), change


def cosine(aa: Tensor, bb: Tensor, ab: Tensor) -> Tensor:
    """From sums of products [B]. With a black picture, where it is 0/0: 1 if both are black, else 0."""
    black = (aa == 0) | (bb == 0)
    return torch.where(black, (aa == bb).float(), ab / (aa * bb).sqrt().clamp_min(1e-12)).clamp_max(1.0)


def similarity(a: Tensor, b: Tensor, tiles: int = 8) -> tuple[Tensor, Tensor]:
    """(cosine [B] in 0..1, mean absolute change of each tile [B, tiles, tiles] in 0..1) of pictures uint8 [B, H, W, 3].

    Raises ValueError for sizes that the tiles do not divide.
    """
    if a.shape != b.shape or a.shape[1] % tiles or a.shape[2] % tiles:
        raise ValueError(f"{tiles} x {tiles} tiles do not divide pictures of {list(a.shape)} and {list(b.shape)}")
    if not takes(a, b):
        return similarity_reference(a, b, tiles)
    from kernels.triton_similarity import similarity_kernel

    return similarity_kernel(a, b, tiles)
