"""Dead leaves: shapes, strokes and letters over each other (Lee, Mumford and Huang 2001).

They share the edge and scale statistics of photographs.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

from training.scenes.base import colours, noise, plane, uniform

GLYPHS = "ABCDEFGHKMNPRSTXYZabdeghkmnrstxyz0123456789&?!#@%*+="


@functools.cache
def glyph_atlas() -> Tensor:
    """(G, 1, 64, 64) masks of letters and digits in Pillow's own font."""
    font = ImageFont.load_default(size=52)
    cells = []
    for glyph in GLYPHS:
        image = Image.new("L", (64, 64))
        ImageDraw.Draw(image).text((32, 32), glyph, fill=255, font=font, anchor="mm")
        cells.append(torch.tensor(list(image.tobytes()), dtype=torch.float32).view(1, 64, 64) / 255)
    return torch.stack(cells)


def _leaf(n: int, side: int, scale: float, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """One bent superellipse, stroke or glyph per picture: mask (N, 1, S, S) and its own coordinates v, u."""
    y, x = plane(side)
    one = (n, 1, 1, 1)
    angle, cy, cx = uniform(one, 0, 6.2832, rng), uniform(one, -1.1, 1.1, rng), uniform(one, -1.1, 1.1, rng)
    u = (x - cx) * angle.cos() + (y - cy) * angle.sin()
    v = -(x - cx) * angle.sin() + (y - cy) * angle.cos()
    long = scale * uniform(one, 0.5, 1.5, rng)
    thin = torch.rand(one, generator=rng) < 0.3
    short = long * torch.where(thin, uniform(one, 0.03, 0.12, rng), uniform(one, 0.35, 1.0, rng))
    v = v + uniform(one, -0.6, 0.6, rng) * u * u / long
    a, b = (u / long).abs(), (v / short).abs()
    radius = (torch.sqrt(a * a + b * b + 1e-9), torch.maximum(a, b), a + b)[int(torch.randint(0, 3, (), generator=rng))]
    pixel = 2.0 / side
    blurred = torch.where(torch.rand(one, generator=rng) < 0.2, uniform(one, 2, 10, rng), uniform(one, 0.35, 0.8, rng))
    mask = torch.sigmoid((1 - radius) * short / (pixel * blurred))
    if torch.rand((), generator=rng) < 0.2:
        atlas = glyph_atlas()[torch.randint(0, len(GLYPHS), (n,), generator=rng)]
        grid = torch.stack([u / long, v / long], -1)[:, 0]
        mask = F.grid_sample(atlas, grid, align_corners=False)
    return mask, v / long, u / long


def leaves(n: int, side: int, rng: Generator, count: int = 44) -> Tensor:
    """Dead leaves over noise: shapes from large to small, each with its own shading, texture, shadow and edge blur."""
    one = (n, 1, 1, 1)
    tones = noise(n, 1, side, rng)
    low, high = colours(n, rng), colours(n, rng)
    picture = low + (high - low) * (0.5 + 0.5 * tones)
    texture = noise(n, 1, side, rng, 0.85, 8)
    for k in range(count):
        scale = 0.9 * (0.05 / 0.9) ** ((k + float(torch.rand((), generator=rng))) / count)
        mask, v, u = _leaf(n, side, scale, rng)
        colour = colours(n, rng)
        shade = 1 + uniform(one, -0.5, 0.5, rng) * u + uniform(one, -0.5, 0.5, rng) * v
        grain = texture.roll(int(torch.randint(0, side, (), generator=rng)), 3) * uniform(one, 0, 0.35, rng) ** 2
        stripes = torch.where(torch.rand(one, generator=rng) < 0.15, 0.25, 0.0) * torch.sin(u * uniform(one, 8, 40, rng))
        leaf = colour * shade + grain + stripes * colour
        if k < count // 2:
            shadow = F.avg_pool2d(mask, 9, stride=1, padding=4).roll((3, 3), (2, 3))
            picture = picture * (1 - 0.4 * shadow)
        picture = picture + mask * (leaf - picture)
    return picture.clamp(0, 1)
