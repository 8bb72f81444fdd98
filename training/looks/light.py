"""Looks made of light."""

from __future__ import annotations

from torch import Tensor

from training import filters as f
from training import strokes as s


def neon(x: Tensor) -> Tensor:
    """Glowing tubes along the strong contours, in the picture's own hues, over near black.

    Tubes are wide and few: noise hides fine lines of hair and cloth first, and the model can only smear hidden lines.
    """
    contour = s.contours(x, s.direction(x, 8.0), 2.6)
    line = s.inked(contour, 60.0, 0.014)
    hue = f.haze(x, 4.0)
    hue = hue - hue.amin(1, keepdim=True) + 0.25 * f.colour(x, 0.25, 0.1, 0.55)
    colour = hue / hue.amax(1, keepdim=True)
    glow = f.haze(line, 6.0)
    dark = f.colour(x, 0.02, 0.01, 0.06)
    return (dark + colour * (0.9 * line + 1.1 * glow) + 0.5 * line**3).clamp(0, 1)


def vaporwave(x: Tensor) -> Tensor:
    """Synthwave poster: indigo, magenta, orange-pink and cyan by brightness, cyan contours, faint scan lines."""
    luma = f.contrast(f.kuwahara(f.luminance(x), 3), 4.0)
    stops = ((0.08, 0.03, 0.25), (0.42, 0.08, 0.6), (0.95, 0.2, 0.65), (1.0, 0.6, 0.6), (0.6, 0.98, 1.0))
    base = f.gradient_map(luma, stops) * (1 + 0.05 * s.hatching(x, 0, 2))
    line = s.ink_lines(x, s.direction(x), 1.3, 26.0, 0.008)
    return f.mix(base, f.colour(x, 0.2, 0.95, 1.0), 0.8 * line).clamp(0, 1)
