"""CADS: condition-annealed sampling (Sadat et al., arXiv 2310.17347), so that seeds draw different pictures of one prompt. Pure.

    ŷ = √γ(t)·y + s·√(1 − γ(t))·n,   n ~ N(0, 1) of the seed
    γ(t) = 1 for t ≤ τ₁,  (τ₂ − t)/(τ₂ − τ₁) between,  0 for t ≥ τ₂
    ŷ_r = (ŷ − mean(ŷ))/std(ŷ)·std(y) + mean(y)
    y′ = ψ·ŷ_r + (1 − ψ)·ŷ

y is the prompt's embedding, t the level's timestep over the last one, 0..1. The prompt counts little in the noise, where the
layout is decided, and in full at the end. The paper's τ₂ is at most 1: its first steps of many see no prompt. At one step that
would be all that the picture sees. So τ₂ may be above 1 here: at t = 1 then γ = (τ₂ − 1)/(τ₂ − τ₁) is left.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.values.settings import CadsSettings

SEED_OFFSET, STRIDE = 0xCAD5, 0x9E3779B1


def kept(t: float, low: float, high: float) -> float:
    """γ(t), 0..1. low: τ₁; high: τ₂, at which γ jumps from 1 to 0 where it is not above τ₁."""
    if t <= low:
        return 1.0
    return 0.0 if t >= high else (high - t) / (high - low)


def noise(seed: int, index: int, shape: tuple[int, ...]) -> Tensor:
    """n of a seed, float32 of the shape of its embedding. index: of the embedding among those of a prompt."""
    generator = torch.Generator().manual_seed((seed + SEED_OFFSET + index * STRIDE) % 2**32)  # torch reads 32 bits
    return torch.randn(shape, generator=generator)


def annealed(y: Tensor, n: Tensor, gamma: float, scale: float, rescale: float) -> Tensor:
    """y′ of y's shape. n: noise of the same shape; scale: s; rescale: ψ. γ = 1 gives y itself."""
    if gamma == 1.0:
        return y
    noisy = gamma**0.5 * y + scale * (1.0 - gamma) ** 0.5 * n
    if rescale == 0.0:
        return noisy
    standard = (noisy - noisy.mean()) / noisy.std().clamp_min(1e-8)
    return torch.lerp(noisy, standard * y.std() + y.mean(), rescale)


def of_level(settings: CadsSettings, t: float) -> float:
    """γ(t) under these settings; 1 where they are off."""
    return kept(t, settings.low, settings.high) if settings.enabled else 1.0
