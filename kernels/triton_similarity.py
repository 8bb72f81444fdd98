"""The Triton side of similarity.py: one program reads one tile of both pictures and leaves its four sums."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.similarity import cosine

BLOCK = 1024
SUMS = 4  # a·a, b·b, a·b, |a − b|


@triton.jit
def _tiles(a, b, sums, height, width, tile_height, tile_width, tiles, SUMS: tl.constexpr, BLOCK: tl.constexpr):
    picture, tile = tl.program_id(1).to(tl.int64), tl.program_id(0)
    start = picture * height * width * 3 + ((tile // tiles) * tile_height * width + (tile % tiles) * tile_width) * 3
    line = tile_width * 3
    aa, bb = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    ab, apart = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for first in range(0, tile_height * line, BLOCK):
        place = first + tl.arange(0, BLOCK)
        inside = place < tile_height * line
        at = start + (place // line) * width * 3 + place % line
        x = tl.load(a + at, mask=inside, other=0).to(tl.float32) / 255.0
        y = tl.load(b + at, mask=inside, other=0).to(tl.float32) / 255.0
        aa += x * x
        bb += y * y
        ab += x * y
        apart += tl.abs(x - y)
    out = sums + (picture * tiles * tiles + tile) * SUMS
    tl.store(out, tl.sum(aa))
    tl.store(out + 1, tl.sum(bb))
    tl.store(out + 2, tl.sum(ab))
    tl.store(out + 3, tl.sum(apart))


def similarity_kernel(a: Tensor, b: Tensor, tiles: int) -> tuple[Tensor, Tensor]:
    """`similarity` in one launch, and a few operations on tiles·tiles numbers a picture."""
    rows, height, width, _ = a.shape
    sums = torch.empty((rows, tiles * tiles, SUMS), dtype=torch.float32, device=a.device)
    of_tile = height // tiles, width // tiles
    _tiles[(tiles * tiles, rows)](
        a.contiguous(), b.contiguous(), sums, height, width, *of_tile, tiles, SUMS=SUMS, BLOCK=BLOCK
    )  # fmt: skip
    aa, bb, ab, _ = sums.sum(1).unbind(1)
    change = sums[:, :, 3].reshape(rows, tiles, tiles) / (of_tile[0] * of_tile[1] * 3)
    return cosine(aa, bb, ab), change
