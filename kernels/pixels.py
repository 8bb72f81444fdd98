"""Pictures in and out of a network in one pass: uint8 [B, H, W, 3] ↔ floats [B, 3, h, w] in -1..1, resized on the way in.

As torch operations this is a permutation, a conversion and an affine map, and a resize before them. In the kernels every pixel is
read and written once, whatever the layout of the floats.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.dispatch import takes


def enter_reference(pixels: Tensor, dtype: torch.dtype, size: tuple[int, int] | None = None) -> Tensor:
    """What `enter` computes."""
    x = pixels.permute(0, 3, 1, 2)
    if size is None or size == tuple(x.shape[2:]):
        return x.to(dtype) / 127.5 - 1.0
    x = F.interpolate(x.float(), size, mode="bilinear", align_corners=False)
    return (x / 127.5 - 1.0).to(dtype)


def leave_reference(x: Tensor) -> Tensor:
    """What `leave` computes."""
    x = ((x.float() + 1.0) * 127.5).round().clamp(0.0, 255.0)
    return x.permute(0, 2, 3, 1).to(torch.uint8)


def enter(pixels: Tensor, dtype: torch.dtype, size: tuple[int, int] | None = None) -> Tensor:
    """Pictures uint8 [B, H, W, 3] to floats [B, 3, h, w] of -1..1, channels-last in memory. size: (h, w), bilinear between the
    nearest four pixels; None keeps H and W."""
    if not takes(pixels):
        return enter_reference(pixels, dtype, size)
    from kernels.triton_pixels import enter_kernel

    return enter_kernel(pixels, dtype, size)


def leave(x: Tensor) -> Tensor:
    """Floats [B, 3, H, W], nominally of -1..1, to pictures uint8 [B, H, W, 3], rounded to the nearest and clamped."""
    if not takes(x):
        return leave_reference(x)
    from kernels.triton_pixels import leave_kernel

    return leave_kernel(x)
