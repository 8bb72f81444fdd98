"""Seeds that differ: a frame from a prompt alone starts a little below the noisiest level, from a smooth random latent f.

    x = a·f + s·ε  at t₀ = round((1 − REACH·v)·(T − 1))
    f = Σ_k r^k·up(n_k), scaled to deviation 1,  n_k ~ N(0, 1) on 4·2^k × 4·2^k cells

At the last timestep a is almost 0, and a network that goes to x̂₀ at once answers every noise with the mean of what the prompt
allows: one layout for all seeds. A little below it, the network reads the smooth part of x as a coarse picture, and follows it.
v is the setting, 0 to 1. Such sums of octaves are known from fine-tuning as pyramid noise. CADS (arXiv 2310.17347)
changes the prompt's embedding for the same end, over many steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 0.05
"""Share of the schedule that variety 1 leaves out. Of pocket's scenes, half of it leaves what was asked for recognisable."""

OCTAVES, FALL = 3, 0.6
SEED_OFFSET = 0x5EED


def smooth(seed: int, shape: tuple[int, int, int]) -> Tensor:
    """f of a seed, [C, h, w] float32, deviation 1. The same at every size, but for its sampling."""
    generator, (channels, height, width) = torch.Generator().manual_seed((seed + SEED_OFFSET) % 2**63), shape
    total = torch.zeros(shape)
    for k in range(OCTAVES):
        cells = torch.randn(1, channels, 4 * 2**k, 4 * 2**k, generator=generator)
        total += FALL**k * F.interpolate(cells, (height, width), mode="bicubic")[0]
    return total / total.std()


def strength(variety: float) -> float:
    """The strength at which a frame from a prompt alone starts, 1 − REACH to 1."""
    return 1.0 - REACH * variety
