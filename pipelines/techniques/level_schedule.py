"""How strongly guidance and ω act at a level, by how noisy the level is. Pure.

    γ(t) = 1 + (γ − 1)·w(t)        ω(t) = 1 + (ω − 1)·w(t)

t is the level's timestep over the last one, 0..1, as the strength counts it: 1 is noise alone. w is

- constant: 1
- linear: 2·(1 − t), cosine: 1 + cos(πt): weak in noise, strong at the end, 1 on the mean over all t ("Analysis of
  classifier-free guidance weight schedulers", arXiv 2404.13040, whose ω is γ − 1 here);
- interval: 1 for low < t ≤ high, else 0 ("Applying guidance in a limited interval", arXiv 2404.07724, whose σ rises with t). A
  level outside needs no negative row.

So a schedule means the same at every number of steps and every strength, and at one step, too.
"""

from __future__ import annotations

import math

from pipelines.values.settings import Settings


def weight(kind: str, t: float, low: float, high: float) -> float:
    """w(t), 0..2. t, low, high: 0..1."""
    match kind:
        case "linear":
            return 2.0 * (1.0 - t)
        case "cosine":
            return 1.0 + math.cos(math.pi * t)
        case "interval":
            return 1.0 if low < t <= high else 0.0
    return 1.0


def guidance(settings: Settings, t: float) -> float:
    """γ(t)."""
    return 1.0 + (settings.guidance - 1.0) * weight(settings.guidance_schedule, t, settings.interval_low, settings.interval_high)


def omega(settings: Settings, t: float) -> float:
    """ω(t)."""
    return 1.0 + (settings.omega - 1.0) * weight(settings.omega_schedule, t, settings.interval_low, settings.interval_high)
