"""What the strength does to a painted look: how much of the paint there is, and how freely it draws.

A painter draws what it sees, whatever the denoising strength left of the source. So up to FULL a painted picture lies over the
picture below with a share that grows. Beyond, the painter sees the picture through a blur whose radius grows, so strokes become
larger and details are left out; and its style moves away from the mean of all styles, so it becomes more of what it is. At
strength 1 nothing of the source is left, and the scene of the prompt is painted as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.values.picture_style import TONE

FULL = 0.5
"""The strength at which there is all of the paint and no blur."""

FREEST = 0.9
"""The strength with the widest blur."""

FARTHEST = 0.5
"""How far a style moves away from the mean at FREEST, as a share of its distance."""

LEVELS = 3
"""Levels of blur beside the sharp picture (`pipelines.networks.pixels.softened` has their widths)."""


def amount(strength: float) -> float:
    """Share of the paint, 0..1, at a strength 0..1."""
    return min(strength / FULL, 1.0)


def softness(strength: float) -> float:
    """Level of blur, 0..LEVELS, at a strength 0..1."""
    rising = (strength - FULL) / (FREEST - FULL)
    falling = (1.0 - strength) / (1.0 - FREEST)
    return LEVELS * max(0.0, min(rising, falling, 1.0))


def freed(numbers: Tensor, mean: Tensor, strength: float) -> Tensor:
    """The numbers [N + TONE] of a style at a strength 0..1. mean: of all styles, [N]. The tone stays."""
    away = FARTHEST * softness(strength) / LEVELS
    plain, tone = numbers.split((len(mean), TONE))
    return torch.cat([plain + away * (plain - mean), tone])
