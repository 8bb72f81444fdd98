"""Pictures made of a material: stone, gold, tiles, thread, paper."""

from __future__ import annotations

import torch
from torch import Tensor

from training import filters as f
from training import strokes as s


def relief(x: Tensor) -> Tensor:
    """Stone relief: the brightness as a height field, lit from the top left, with the stone's own grain."""
    luma = f.luminance(x)
    slope = s.emboss(f.blur(luma, 1.0), 9.0)
    stone = f.colour(x, 0.62, 0.59, 0.54) * (0.85 + 0.3 * f.haze(luma, 6.0) + 0.05 * s.tooth(x))
    return (stone * (1 - 0.75 * slope)).clamp(0, 1)


def gold(x: Tensor) -> Tensor:
    """Cast gold: polished metal whose highlights run along the slopes."""
    luma = f.luminance(x)
    height = 0.65 * f.blur(luma, 1.6) + 0.35 * f.haze(luma, 5.0)
    gx, gy = f.gradients(height)
    slope = torch.tanh(11.0 * (gx + gy))
    mirror = 0.5 + 0.5 * torch.cos(2.6 * slope + 3.0 * f.haze(luma, 4.0) - 1.1)
    tone = (0.62 * mirror + 0.38 * f.contrast(luma, 3.0) - 0.12 * slope).clamp(0, 1)
    return f.gradient_map(tone, ((0.1, 0.04, 0.01), (0.45, 0.24, 0.04), (0.83, 0.57, 0.13), (1.0, 0.84, 0.38), (1.0, 0.99, 0.86)))


def mosaic(x: Tensor) -> Tensor:
    """Glazed tiles of 8 pixels with pale grout and a lit edge."""
    glaze = f.saturate(f.contrast(f.blocks(x), 3.0), 1.6)
    axis = (torch.arange(8) - 3.5).abs()
    inside = torch.maximum(axis[:, None], axis[None])
    grout = f.tile((inside > 3).float(), x)
    corner = torch.arange(8)
    lit = f.tile(((corner[:, None] == 1) | (corner[None] == 1)).float(), x)
    shaded = f.tile(((corner[:, None] == 6) | (corner[None] == 6)).float(), x)
    tiles = glaze * (0.95 + 0.35 * lit * (1 - shaded) - 0.28 * shaded) + 0.10 * lit * (1 - shaded)
    return f.mix(tiles.clamp(0, 1), f.colour(x, 0.78, 0.75, 0.69), grout)


def embroidery(x: Tensor) -> Tensor:
    """Cross stitch: an X of thread in every 8 x 8 cell, on linen."""
    thread = f.saturate(f.contrast(f.blocks(x), 2.5), 1.5)
    axis = torch.arange(8) - 3.5
    v, u = axis[:, None], axis[None]
    falling, rising = (u - v).abs() / 1.4142, (u + v).abs() / 1.4142
    edge = (torch.maximum(u.abs(), v.abs()) < 3.6).float()
    over = torch.sigmoid((1.75 - rising) / 0.25) * edge  # the upper thread
    under = torch.sigmoid((1.75 - falling) / 0.25) * edge * (1 - over)
    round_over = over * (1.22 - 0.16 * rising**2)
    round_under = under * (0.86 - 0.13 * falling**2)
    cover = f.tile((over + under).clamp(0, 1), x)
    linen = f.colour(x, 0.80, 0.75, 0.66) * (0.62 + 0.1 * s.hatching(x, 4, 0) + 0.1 * s.hatching(x, 0, 4))
    return ((0.05 + thread) * f.tile(round_over + round_under, x) + linen * (1 - cover)).clamp(0, 1)


def papercut(x: Tensor) -> Tensor:
    """Layers of cut paper: five flat sheets from deep blue to cream, each casting a shadow on the one below."""
    smooth = f.blur(f.luminance(x), 2.2)
    luma = f.contrast(smooth + 0.35 * (smooth - f.haze(smooth, 14.0)), 5.0)
    sheets = ((0.16, 0.27, 0.43), (0.25, 0.51, 0.58), (0.93, 0.51, 0.38), (0.97, 0.76, 0.5), (0.99, 0.94, 0.83))
    picture = f.colour(x, *sheets[0]).expand_as(x)
    for level, sheet in zip((0.2, 0.4, 0.6, 0.8), sheets[1:], strict=True):
        mask = f.soft_step(luma, level, 0.016)
        shadow = torch.roll(f.blur(mask, 1.5), (3, 2), (2, 3))
        picture = f.mix(picture * (1 - 0.5 * shadow), f.colour(x, *sheet), mask)
    return (picture + 0.015 * s.tooth(x)).clamp(0, 1)
