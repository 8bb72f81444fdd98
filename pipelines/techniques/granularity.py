"""ω, the granularity of a picture: scale the predicted noise (Omegance, arXiv 2411.17769). Pure functions of tensors.

ε' = ω·ε, so x̂₀' = (x − s·ω·ε)/a = x̂₀ + (1 − ω)·(s/a)·ε: below 1 some of the noise stays and becomes grain and detail, above
1 more than the noise is taken and the picture becomes smooth and plain. The paper's sampler moves a small step at a time; here
a level goes all the way to x̂₀, and s/a grows without bound towards the last timestep (15 for Stable Diffusion). So s/a is
held at 1, its value where signal and noise are equal: (1 − ω) is the most noise, in units of its σ, that is added or taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.techniques.schedule import implied_noise


def scaled(x0: Tensor, x: Tensor, omega: float, a: Tensor, s: Tensor, m: Tensor | None = None) -> Tensor:
    """x̂₀' [C, h, w] of a prediction x̂₀ at x = a·x₀ + s·ε; a and s as `noised` takes them.

    m: share of the effect per pixel, [1, h, w] in 0..1; ω is then 1 + m·(ω − 1). ω = 1 and m = 0 give x̂₀ itself.
    """
    if omega == 1.0:
        return x0
    ratio = torch.clamp(s / a, max=1.0)
    change = (1.0 - omega) * ratio * implied_noise(x0, x, a, s)
    return x0 + (change if m is None else m * change)
