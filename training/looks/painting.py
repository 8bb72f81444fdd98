"""Paintings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training import filters as f
from training import strokes as s


def oil(x: Tensor) -> Tensor:
    """Oil paint: thick strokes that follow the forms, rich colour, ridges of paint lit from the top left."""
    way = s.direction(x, 8.0)
    luma = f.luminance(x)
    paint, bristle = s.along(torch.cat([f.kuwahara(x, 4), luma - f.blur(luma, 3.0)], 1), way, 5.5, 3).split((3, 1), 1)
    paint = f.saturate(f.contrast((paint + 0.9 * bristle).clamp(0, 1), 3.4), 1.6)
    height = 0.33 * s.grating(x, way, s.WAVES, 16.0) + torch.tanh(8.0 * bristle) + 1.2 * f.luminance(paint)
    ridge = s.emboss(height, 1.7)
    warm = paint * f.colour(x, 1.05, 1.0, 0.9)
    return (warm * (1 + 0.42 * ridge) + 0.07 * torch.relu(ridge)).clamp(0, 1)


def watercolour(x: Tensor) -> Tensor:
    """Thin washes on white paper: bright transparent colour, darker rims where a wash ends, pigment in the paper's tooth."""
    wash = f.kuwahara(f.blur(x, 0.8), 5)
    luma = f.luminance(wash)
    tint = f.saturate(f.contrast(wash, 3.0), 1.85)
    rim = torch.tanh(12.0 * f.edges(luma, 1.2))
    dark = f.mix(f.colour(x, 0.2, 0.22, 0.36), torch.ones_like(x), tint)
    bleed = f.soft_step(f.haze(luma, 4.0), 0.72, 0.05)
    pale = f.mix(dark, f.colour(x, 1.0, 1.0, 0.98), 0.16 + 0.7 * bleed)
    pigment = 1 + 0.10 * s.tooth(x) * (1 - f.luminance(pale))
    return (pale * pigment * (1 - 0.42 * rim * (1 - 0.4 * tint))).clamp(0, 1)


def _dabs(x: Tensor, way: s.Direction, top: int, left: int) -> tuple[Tensor, Tensor]:
    """One dab of paint per 8 x 8 cell, cells shifted by (top, left): its mask (N, 1, H, W) and colour (N, 3, H, W)."""
    height, width = x.shape[-2:]
    grown = F.pad(torch.cat([x, *way], 1), (left, 8 - left, top, 8 - top), mode="replicate")
    middles = F.avg_pool2d(grown[..., 2:-2, 2:-2], 4, stride=8)  # of each cell, 4 x 4 pixels
    cells = F.interpolate(middles, scale_factor=8, mode="nearest")[..., top : top + height, left : left + width]
    row = (torch.arange(height, device=x.device) + top) % 8 - 3.5
    column = (torch.arange(width, device=x.device) + left) % 8 - 3.5
    v, u = row.view(1, 1, height, 1).to(x), column.view(1, 1, 1, width).to(x)
    c, d = cells[:, 3:4], cells[:, 4:]
    # Squares of the distances along and across the direction, by the double angle.
    square, turned = u * u + v * v, (u * u - v * v) * c + 2 * u * v * d
    radius = (square + turned) / (2 * 5.4**2) + (square - turned) / (2 * 2.3**2)
    lit = 1 - 0.05 * (u + v)  # the top left of a dab of paint catches the light
    return torch.sigmoid((1 - radius) / 0.13), cells[:, :3] * lit


def impressionist(x: Tensor) -> Tensor:
    """Dabs of broken colour, turned along the forms, warm beside cool."""
    way = s.direction(x, 8.0)
    rich = f.saturate(f.contrast(x, 2.5), 1.7)
    picture = f.blur(rich, 1.5) * 0.6
    tints = ((0, 0, (1.0, 0.85, 0.55)), (4, 4, (0.62, 0.85, 1.1)), (0, 4, (1.2, 1.0, 0.72)), (4, 0, (1.05, 1.05, 1.25)))
    for top, left, tint in tints:
        mask, colour = _dabs(rich, way, top, left)
        picture = f.mix(picture, colour * f.colour(x, *tint) + 0.02, 0.9 * mask)
    return picture.clamp(0, 1)


def ukiyo_e(x: Tensor) -> Tensor:
    """Japanese woodblock print: flat indigo, tan and cream, vermilion for warm colours, fine dark contours, wood grain."""
    way = s.direction(x)
    flat = f.kuwahara(x, 5)
    tone = f.posterise(f.contrast(f.luminance(flat), 4.0), 5, 0.35)
    stops = ((0.11, 0.15, 0.27), (0.2, 0.36, 0.5), (0.53, 0.62, 0.58), (0.86, 0.77, 0.58), (0.96, 0.91, 0.77))
    base = f.gradient_map(tone, stops)
    warmth = f.soft_step(flat[:, :1] - 0.5 * flat[:, 1:2] - 0.5 * flat[:, 2:], 0.17, 0.035)
    red = f.mix(f.colour(x, 0.5, 0.13, 0.1), f.colour(x, 0.93, 0.56, 0.42), tone)
    base = f.mix(base, red, 0.9 * warmth)
    grain = 0.035 * s.hatching(x, 0, 2) + 0.02 * s.hatching(x, 0, 3, 1.0)
    line = s.ink_lines(x, way, 1.1, 40.0, 0.008)
    return f.mix((base + grain).clamp(0, 1), f.colour(x, 0.07, 0.08, 0.14), 0.95 * line)


def cartoon(x: Tensor) -> Tensor:
    """Comic: few flat bright colours, thick clean black outlines, and shadows hatched in ink."""
    way = s.direction(x)
    flat = f.kuwahara(f.blur(x, 1.0), 5)
    luma = f.luminance(flat)
    stepped = f.posterise(f.contrast(luma, 3.0), 4, 0.05)
    flat = (flat + 0.03) * (0.16 + 0.9 * stepped) / (luma + 0.06)
    flat = f.saturate(flat.clamp(0, 1), 1.9)
    shadow = f.soft_step(0.46 - f.blur(luma, 1.5), 0.0, 0.06)
    hatched = 0.8 * shadow * f.soft_step(s.hatching(x, 1, 1), 0.35, 0.25)
    line = torch.maximum(s.ink_lines(x, way, 2.5, 60.0, 0.008), hatched)
    return f.mix(0.06 + 0.94 * flat, f.colour(x, 0.02, 0.01, 0.03), line)
