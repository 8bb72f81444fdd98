"""Photographic looks."""

from __future__ import annotations

import torch
from torch import Tensor

from training import filters as f


def photo(x: Tensor) -> Tensor:
    """The picture itself."""
    return x.clamp(0, 1)


def vintage(x: Tensor) -> Tensor:
    """Old photograph: soft sepia with faded blacks."""
    luma = f.blur(f.luminance(x), 0.8)
    glow = 0.8 * luma + 0.2 * f.haze(luma, 5.0)
    return f.gradient_map(f.contrast(glow, 3.0), ((0.2, 0.13, 0.08), (0.62, 0.46, 0.3), (0.97, 0.89, 0.72)))


def noir(x: Tensor) -> Tensor:
    """Film noir: black and white, deep shadows, hard local light, a halo round the brightest parts."""
    luma = f.blur(f.luminance(x), 0.6)
    wide = f.haze(luma, 14.0)
    crisp = luma + 0.4 * (luma - f.blur(luma, 1.5)) + 0.35 * (luma - wide)
    tone = f.contrast(crisp.clamp(0, 1), 8.0, 0.48)
    halo = f.haze(tone.clamp(0, 1) ** 3, 7.0)
    return (0.93 * tone + 0.16 * halo).clamp(0, 1) * f.colour(x, 0.97, 0.98, 1.0)


def xray(x: Tensor) -> Tensor:
    """X-ray plate: a negative with glowing contours, pale blue on black."""
    luma = f.blur(f.luminance(x), 1.0)
    inverse = 1 - luma
    body = f.contrast((0.55 * inverse + 1.5 * (f.haze(luma, 8.0) - luma) + 0.2).clamp(0, 1), 2.5)
    rim = torch.tanh(9.0 * torch.relu(f.edges(f.luminance(x), 1.4) - 0.01))
    glow = f.haze(body, 6.0)
    tone = (0.7 * body + 0.15 * glow + 0.45 * rim).clamp(0, 1)
    return f.gradient_map(tone, ((0.0, 0.01, 0.03), (0.05, 0.2, 0.32), (0.42, 0.68, 0.82), (0.95, 1.0, 1.0)))


THERMAL = ((0.0, 0.0, 0.08), (0.22, 0.0, 0.5), (0.62, 0.05, 0.5), (0.93, 0.3, 0.15), (1.0, 0.72, 0.1), (1.0, 1.0, 0.85))


def thermal(x: Tensor) -> Tensor:
    """Thermal camera: blurred luma through black, violet, red, orange, yellow, white."""
    return f.gradient_map(f.contrast(f.blur(f.luminance(x), 2.0), 4.5), THERMAL)
