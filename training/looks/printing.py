"""Prints: dots, cuts and inks."""

from __future__ import annotations

import torch
from torch import Tensor

from training import filters as f
from training import strokes as s


def _dots(x: Tensor) -> Tensor:
    """Distance from the middle of an 8 x 8 cell, (1, 1, H, W): 0 in the middle and about 1 in the corners."""
    axis = torch.arange(8) - 3.5
    return f.tile(torch.sqrt(axis[:, None] ** 2 + axis[None] ** 2) / 4.95, x)


def halftone(x: Tensor) -> Tensor:
    """Comic print: dots of 8 pixels on cream paper, darker means larger, flat colour and black outlines."""
    flat = f.saturate(f.posterise(f.kuwahara(x, 3), 4, 0.4), 1.9)
    tone = f.blocks(f.luminance(x))
    radius = 1.02 * torch.sqrt((1 - tone).clamp(0, 1)) - 0.12
    dot = torch.sigmoid((radius - _dots(x)) / 0.07)
    line = s.ink_lines(x, s.direction(x), 1.5, 40.0, 0.01)
    return f.mix(f.colour(x, 1.0, 0.96, 0.86), flat * 0.8, dot) * (1 - 0.95 * line)


def engraving(x: Tensor) -> Tensor:
    """Banknote engraving: black lines that follow the forms and swell where the picture is dark."""
    way = s.direction(x, 8.0)
    tone = f.contrast(f.blur(f.luminance(x), 1.3), 5.0)
    wave = s.grating(x, way, s.FINE, 20.0)
    hatch = f.soft_step(0.62 * wave, 2.3 * tone - 1.15, 0.1)
    line = s.ink_lines(x, way, 1.0, 40.0)
    ink = 1 - (1 - hatch) * (1 - line)
    return f.mix(f.colour(x, 0.96, 0.93, 0.86), f.colour(x, 0.08, 0.07, 0.07), ink)


def linocut(x: Tensor) -> Tensor:
    """Linocut in two blocks: brick red and black on cream, with gouge marks along the forms."""
    way = s.direction(x, 8.0)
    tone = f.contrast(f.kuwahara(f.luminance(x), 4), 5.0)
    wave = s.grating(x, way, s.WAVES, 18.0)
    black = f.soft_step(0.17 * wave - tone, -0.34, 0.025)
    red = f.soft_step(0.12 * wave - tone, -0.7, 0.025)
    line = s.ink_lines(x, way, 1.8, 40.0, 0.01)
    print_ = f.mix(f.colour(x, 0.95, 0.9, 0.78), f.colour(x, 0.76, 0.24, 0.15), red)
    return f.mix(print_, f.colour(x, 0.07, 0.06, 0.07), 1 - (1 - black) * (1 - line))


def popart(x: Tensor) -> Tensor:
    """Screen print in five flat loud colours: black, red, orange, yellow, turquoise."""
    luma = f.blur(f.luminance(x), 1.6)
    tone = f.contrast(luma + 0.25 * (luma - f.haze(luma, 14.0)), 5.0).clamp(0, 1)
    stops = ((0.09, 0.05, 0.16), (0.86, 0.08, 0.24), (1.0, 0.5, 0.05), (1.0, 0.9, 0.12), (0.35, 0.93, 0.86))
    return f.gradient_map(f.posterise(tone, 5, 0.12), stops)
