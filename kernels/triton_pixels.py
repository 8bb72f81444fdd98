"""The Triton side of pixels.py. One program handles BLOCK pixels of one picture, all three channels of each."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


@triton.jit
def _round_half_even(x):
    """To the nearest, ties to the even one as torch rounds, for 0 <= x < 2**22: adding and taking 2**23 leaves no fraction."""
    return (x + 8388608.0) - 8388608.0


@triton.jit
def _enter(source, target, height, width, out_height, out_width, RESIZE: tl.constexpr, BLOCK: tl.constexpr):
    picture = tl.program_id(1)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < out_height * out_width
    start = source + picture.to(tl.int64) * height * width * 3
    out = target + picture.to(tl.int64) * out_height * out_width * 3
    if RESIZE:
        # The centre of an output pixel in the input's grid, kept inside, as align_corners=False has it.
        y = ((place // out_width).to(tl.float32) + 0.5) * (height / out_height) - 0.5
        x = ((place % out_width).to(tl.float32) + 0.5) * (width / out_width) - 0.5
        y, x = tl.maximum(y, 0.0), tl.maximum(x, 0.0)
        top, left = y.to(tl.int32), x.to(tl.int32)
        low, right = tl.minimum(top + 1, height - 1), tl.minimum(left + 1, width - 1)
        down, along = y - top, x - left
    for channel in tl.static_range(3):
        if RESIZE:
            a = tl.load(start + (top * width + left) * 3 + channel, mask=inside, other=0).to(tl.float32)
            b = tl.load(start + (top * width + right) * 3 + channel, mask=inside, other=0).to(tl.float32)
            c = tl.load(start + (low * width + left) * 3 + channel, mask=inside, other=0).to(tl.float32)
            d = tl.load(start + (low * width + right) * 3 + channel, mask=inside, other=0).to(tl.float32)
            value = (1 - down) * ((1 - along) * a + along * b) + down * ((1 - along) * c + along * d)
        else:
            value = tl.load(start + place * 3 + channel, mask=inside, other=0).to(tl.float32)
        tl.store(out + place * 3 + channel, (value / 127.5 - 1.0).to(target.dtype.element_ty), mask=inside)


@triton.jit
def _leave(source, target, count, stride_row, stride_channel, stride_y, stride_x, width, BLOCK: tl.constexpr):
    picture = tl.program_id(1)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    start = source + picture.to(tl.int64) * stride_row + (place // width) * stride_y + (place % width) * stride_x
    out = target + picture.to(tl.int64) * count * 3 + place * 3
    for channel in tl.static_range(3):
        value = tl.load(start + channel * stride_channel, mask=inside, other=0.0).to(tl.float32)
        value = tl.minimum(tl.maximum((value + 1.0) * 127.5, 0.0), 255.0)
        tl.store(out + channel, _round_half_even(value).to(tl.uint8), mask=inside)


def enter_kernel(pixels: Tensor, dtype: torch.dtype, size: tuple[int, int] | None = None) -> Tensor:
    """`pixels.enter` in one launch."""
    rows, height, width, _ = pixels.shape
    out_height, out_width = size or (height, width)
    pixels = pixels.contiguous()
    x = torch.empty((rows, out_height, out_width, 3), dtype=dtype, device=pixels.device)
    grid = (triton.cdiv(out_height * out_width, BLOCK), rows)
    resize = (out_height, out_width) != (height, width)
    _enter[grid](pixels, x, height, width, out_height, out_width, RESIZE=resize, BLOCK=BLOCK)
    return x.permute(0, 3, 1, 2)


def leave_kernel(x: Tensor) -> Tensor:
    """`pixels.leave` in one launch, from any layout of the floats."""
    rows, _, height, width = x.shape
    pixels = torch.empty((rows, height, width, 3), dtype=torch.uint8, device=x.device)
    grid = (triton.cdiv(height * width, BLOCK), rows)
    _leave[grid](x, pixels, height * width, *x.stride(), width, BLOCK=BLOCK)
    return pixels
