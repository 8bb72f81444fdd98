"""Weather and fire: auroras, rain, lightning, flames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from training.filters import gradient_map
from training.scenes.base import NIGHT, choose, cover, ellipse, fractal, paint, plane, rgb, ridge, seen, sky, stars, uniform
from training.scenes.land import conifers


def aurora(n: int, side: int, rng: Generator) -> Tensor:
    """Curtains of green and violet light over a dark land."""
    one = (n, 1, 1, 1)
    y, _ = plane(side)
    picture, _ = sky(n, side, rng, (NIGHT,), 0.1)
    for _ in range(3):
        hem = uniform(one, -0.35, 0.35, rng) + 0.3 * ridge(n, side, rng, 2, 3, 0.5, "cubic")
        tall = uniform(one, 0.35, 0.9, rng)
        up = (hem - y) / tall
        folds = 0.55 + 0.45 * ridge(n, side, rng, 14, 3, 0.7, "cubic")
        glow = torch.exp(-2.4 * up.clamp_min(0)) * torch.sigmoid(up * 28) * folds.clamp(0.05, 1.3)
        base = choose(((0.1, 1.0, 0.5), (0.2, 0.95, 0.75), (0.35, 1.0, 0.35)), n, rng)
        tip = choose(((0.6, 0.15, 0.9), (0.9, 0.2, 0.6), (0.2, 0.35, 1.0)), n, rng)
        picture = picture + 0.75 * glow * paint(base.expand(n, 3, 1, 1), (up * 1.1).clamp(0, 1), tip)
    land = 0.62 - 0.16 * ridge(n, side, rng, 3, 4, 0.5, "cubic")
    picture = paint(picture, cover(y - land, side), rgb(0.03, 0.06, 0.09) + 0.12 * picture.mean((2, 3), keepdim=True))
    return conifers(picture, rng, uniform(one, 0.72, 0.95, rng), rgb(0.01, 0.03, 0.04).expand(n, 3, 1, 1), 0.13, 0.34).clamp(0, 1)


def rain(n: int, side: int, rng: Generator) -> Tensor:
    """A wet street at dusk: soft coloured lights, their reflections, slanting streaks of rain."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    horizon = uniform(one, -0.1, 0.25, rng)
    far = choose(((0.16, 0.2, 0.3), (0.22, 0.24, 0.3), (0.12, 0.16, 0.24), (0.2, 0.17, 0.28)), n, rng, 0.04)
    picture = far * (1.15 + 0.2 * fractal(n, side, rng, (2, 3), 4) - 0.35 * (y - horizon).abs())
    lights = ((1.0, 0.75, 0.35), (1.0, 0.45, 0.25), (0.45, 0.75, 1.0), (1.0, 0.95, 0.8), (0.5, 1.0, 0.65), (1.0, 0.4, 0.6))
    ripple = 0.05 * seen(fractal(n, side, rng, (20, 4), 3, 0.7), y, x)
    for _ in range(11):
        radius, cx = uniform(one, 0.03, 0.11, rng), uniform(one, -1.0, 1.0, rng)
        cy, colour = horizon - uniform(one, 0.02, 0.6, rng), choose(lights, n, rng)
        picture = picture + 0.6 * ellipse(y, x, cy, cx, radius, radius, 0.1) * colour
        below = (y - horizon).clamp_min(0)
        streak = (
            torch.exp(-(((x - cx + ripple) / (radius * 0.8)) ** 2)) * torch.sigmoid((y - horizon) * 40) * torch.exp(-1.6 * below)
        )
        picture = picture + 0.42 * streak * colour
    slant = uniform(one, -0.25, 0.25, rng)
    for cells, share, strength in ((side // 2, 0.012, 0.4), (side // 3, 0.012, 0.55)):
        drops = (torch.rand(n, 1, max(4, cells // 12), cells, generator=rng) < share * 6).float()
        texture = F.interpolate(drops, size=(side, side), mode="bilinear", align_corners=False)
        picture = picture + strength * seen(texture, y, x + slant * y) * rgb(0.75, 0.82, 0.92)
    return picture.clamp(0, 1)


def lightning(n: int, side: int, rng: Generator) -> Tensor:
    """A bolt with branches out of heavy violet clouds."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    tone = choose(((0.2, 0.16, 0.36), (0.14, 0.2, 0.36), (0.26, 0.16, 0.3)), n, rng)
    heavy = fractal(n, side, rng, (3, 2), 6, 0.58)
    picture = tone * (0.8 + 0.55 * heavy - 0.45 * y)
    start = uniform(one, -0.45, 0.45, rng)
    ground = uniform(one, 0.55, 0.85, rng)
    for k in range(4):
        wander = ridge(n, side, rng, 5, 6, 0.55).transpose(2, 3) * (0.2 if k == 0 else 0.13)
        first = -1.0 if k == 0 else uniform(one, -0.6, 0.2, rng)
        lean = uniform(one, -0.15, 0.15, rng) if k == 0 else uniform(one, -0.9, 0.9, rng)
        if k == 0:
            trunk = start + wander + lean * (y + 1)
            path = trunk
        else:
            path = trunk + (y - first) * lean + wander * (y - first).clamp(0, 1)
        last = ground if k == 0 else torch.minimum(ground, first + uniform(one, 0.25, 0.8, rng))
        span = cover(torch.minimum(y - first, last - y), side)
        off = (x - path).abs()
        width = (0.011 if k == 0 else 0.006) * (256 / side) ** 0.5
        picture = picture + span * torch.exp(-((off / width) ** 2)) * rgb(1.0, 0.97, 1.0)
        glow = 0.32 if k == 0 else 0.12
        picture = picture + span * glow * torch.exp(-off / 0.1) * rgb(0.62, 0.55, 1.0)
    land = ground - 0.05 - 0.12 * ridge(n, side, rng, 4, 5, 0.5)
    return paint(picture, cover(y - land, side), rgb(0.03, 0.03, 0.06).expand_as(picture)).clamp(0, 1)


def fire(n: int, side: int, rng: Generator) -> Tensor:
    """Flames that lick upwards, with sparks."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    sway = fractal(n, side, rng, (3, 3), 4, 0.6)
    up = (1 - y) / 2  # 0 below, 1 above
    u = x + 0.34 * sway * up
    tongues = seen(fractal(n, side, rng, (2, 5), 5, 0.6), y * 0.8 + 0.12 * sway, u.clamp(-1, 1))
    body = uniform(one, 0.75, 1.1, rng) - up * uniform(one, 1.0, 1.5, rng) - 0.4 * x * x
    heat = (0.5 * body + 0.52 * tongues * (0.35 + up) + 0.36).clamp(0, 1)
    stops = ((0.02, 0.01, 0.02), (0.3, 0.03, 0.02), (0.82, 0.16, 0.02), (1.0, 0.5, 0.05), (1.0, 0.84, 0.3), (1.0, 0.98, 0.8))
    sparks = stars(n, side, rng, 0.003) * torch.sigmoid((heat - 0.15) * 12)
    return (gradient_map(heat, stops) + sparks * rgb(1.0, 0.6, 0.2)).clamp(0, 1)
