"""A blurred anchor for residual guidance: x₀* is replaced by its Gaussian blur G_σ·x₀*.

    x̂₀ = G_σx₀* + γ(x̂₀_c − G_σx₀*) = [x₀* + γ(x̂₀_c − x₀*)] + (γ − 1)·(x₀* − G_σx₀*)

Self-negative guidance takes (γ − 1) of the source away, its edges too. With a blurred anchor it takes away the source's colours
and large shapes alone. Guiding away from a blurred picture is known from self-attention guidance (arXiv 2210.00939), which blurs
the model's own prediction and computes one more row of it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def blurred(x: Tensor, sigma: float) -> Tensor:
    """x [C, h, w] after a Gaussian of deviation `sigma` latent pixels, 0 or more; borders continue their last value."""
    if sigma == 0.0:
        return x
    radius = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(x.device, non_blocking=True)
    padded = F.pad(x[:, None], (radius,) * 4, mode="replicate")  # [C, 1, h + 2r, w + 2r]
    return F.conv2d(F.conv2d(padded, kernel[None, None, None, :]), kernel[None, None, :, None])[:, 0]
