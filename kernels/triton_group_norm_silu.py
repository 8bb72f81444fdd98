"""The Triton side of group_norm_silu.py, on memory [B, P, C] with P = H·W pixels.

Three launches: mean and squared deviations of each channel over a chunk of pixels; those of each group, from its channels
and chunks (Chan et al. 1983: nothing cancels), as one scale and one shift a channel; then one pass that applies them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 64  # pixels of a chunk
CHANNELS = 64  # channels of a program
CHUNKS = 64  # chunks that a group's program takes at a time


@triton.jit
def _tile(x, added, pixels, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr, ADDED: tl.constexpr):
    """A chunk of a picture's pixels by some channels, in float32; which of it is inside; and where it lies."""
    picture = tl.program_id(2).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = (row < pixels)[:, None] & (channel < channels)[None, :]
    place = picture * pixels * channels + row[:, None] * channels + channel[None, :]
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    if ADDED:
        value += tl.load(added + picture * channels + channel, mask=channel < channels, other=0.0).to(tl.float32)[None, :]
    return value, inside, place, channel


@triton.jit
def _chunk_moments(
    x, added, means, squares, pixels, channels, chunks,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr, ADDED: tl.constexpr,
):  # fmt: skip
    value, inside, _, channel = _tile(x, added, pixels, channels, ROWS, CHANNELS, ADDED)
    count = tl.minimum(pixels - tl.program_id(0) * ROWS, ROWS)
    mean = tl.sum(tl.where(inside, value, 0.0), axis=0) / count
    apart = tl.where(inside, value - mean[None, :], 0.0)
    place = (tl.program_id(2).to(tl.int64) * chunks + tl.program_id(0)) * channels + channel
    tl.store(means + place, mean, mask=channel < channels)
    tl.store(squares + place, tl.sum(apart * apart, axis=0), mask=channel < channels)


@triton.jit
def _group_moments(
    means, squares, weight, bias, scale, shift, pixels, channels, chunks, eps,
    SIZE: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    picture = tl.program_id(1).to(tl.int64)
    member = tl.arange(0, PADDED)
    channel = tl.program_id(0) * SIZE + member
    total = tl.zeros((CHUNKS, PADDED), tl.float32)
    for first in range(0, chunks, CHUNKS):
        chunk = first + tl.arange(0, CHUNKS)
        count = tl.minimum(pixels - chunk * ROWS, ROWS).to(tl.float32)
        inside = (chunk < chunks)[:, None] & (member < SIZE)[None, :]
        place = (picture * chunks + chunk)[:, None] * channels + channel[None, :]
        total += tl.where(inside, count[:, None] * tl.load(means + place, mask=inside, other=0.0), 0.0)
    mean = tl.sum(total) / (pixels * SIZE)
    apart = tl.zeros((CHUNKS, PADDED), tl.float32)
    for first in range(0, chunks, CHUNKS):
        chunk = first + tl.arange(0, CHUNKS)
        count = tl.minimum(pixels - chunk * ROWS, ROWS).to(tl.float32)
        inside = (chunk < chunks)[:, None] & (member < SIZE)[None, :]
        place = (picture * chunks + chunk)[:, None] * channels + channel[None, :]
        distance = tl.load(means + place, mask=inside, other=0.0) - mean
        within = tl.load(squares + place, mask=inside, other=0.0)
        apart += tl.where(inside, within + count[:, None] * distance * distance, 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(apart) / (pixels * SIZE) + eps)
    factor = rstd * tl.load(weight + channel, mask=member < SIZE, other=0.0).to(tl.float32)
    offset = tl.load(bias + channel, mask=member < SIZE, other=0.0).to(tl.float32) - mean * factor
    tl.store(scale + picture * channels + channel, factor, mask=member < SIZE)
    tl.store(shift + picture * channels + channel, offset, mask=member < SIZE)


@triton.jit
def _apply(x, added, scale, shift, y, pixels, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr, ADDED: tl.constexpr):
    value, inside, place, channel = _tile(x, added, pixels, channels, ROWS, CHANNELS, ADDED)
    at = tl.program_id(2).to(tl.int64) * channels + channel
    factor = tl.load(scale + at, mask=channel < channels, other=0.0)
    offset = tl.load(shift + at, mask=channel < channels, other=0.0)
    normed = value * factor[None, :] + offset[None, :]
    tl.store(y + place, (normed * tl.sigmoid(normed)).to(y.dtype.element_ty), mask=inside)


def group_norm_silu_kernel(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, added: Tensor | None = None
) -> Tensor:
    """`group_norm_silu`; x channels-last."""
    rows, channels, height, width = x.shape
    pixels, size = height * width, channels // groups
    chunks = triton.cdiv(pixels, ROWS)
    means, squares = torch.empty((2, rows, chunks, channels), dtype=torch.float32, device=x.device)
    scale, shift = torch.empty((2, rows, channels), dtype=torch.float32, device=x.device)
    y = torch.empty_like(x)
    grid = (chunks, triton.cdiv(channels, CHANNELS), rows)
    given = x if added is None else added.contiguous()
    tile = {"ROWS": ROWS, "CHANNELS": CHANNELS, "ADDED": added is not None}
    _chunk_moments[grid](x, given, means, squares, pixels, channels, chunks, **tile)
    _group_moments[(groups, rows)](
        means, squares, weight, bias, scale, shift, pixels, channels, chunks, eps,
        SIZE=size, PADDED=triton.next_power_of_2(size), ROWS=ROWS, CHUNKS=CHUNKS,
    )  # fmt: skip
    _apply[grid](x, given, scale, shift, y, pixels, channels, **tile)
    return y
