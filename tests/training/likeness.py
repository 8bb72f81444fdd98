"""How alike pictures (N, 3, H, W) in [0, 1] are."""

from __future__ import annotations

import torch
from torch import Tensor

from training import filters


def ssim(a: Tensor, b: Tensor) -> float:
    """Mean SSIM of luma (Wang et al. 2004), Gaussian window of sigma 1.5."""
    x, y = filters.luminance(a), filters.luminance(b)
    mx, my = filters.blur(x, 1.5), filters.blur(y, 1.5)
    vx, vy = filters.blur(x * x, 1.5) - mx * mx, filters.blur(y * y, 1.5) - my * my
    covariance = filters.blur(x * y, 1.5) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return float(((2 * mx * my + c1) * (2 * covariance + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean())


def histogram(x: Tensor, bins: int = 8) -> Tensor:
    """Share of pixels per cell of a bins^3 RGB cube, (bins^3,)."""
    index = (x.clamp(0, 1) * (bins - 1e-4)).long()
    flat = (index[:, 0] * bins + index[:, 1]) * bins + index[:, 2]
    return torch.bincount(flat.flatten(), minlength=bins**3).float() / flat.numel()


def histogram_distance(a: Tensor, b: Tensor) -> float:
    """Half the L1 distance of colour histograms: 0 for equal, 1 for disjoint."""
    return float(0.5 * (histogram(a) - histogram(b)).abs().sum())
