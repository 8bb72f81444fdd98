"""Landscapes with towns: what dead leaves lack, skies, horizons, house fronts."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from training.scenes.base import colours, ellipse, noise, plane, rgb, uniform


def landscape(n: int, side: int, rng: Generator) -> Tensor:
    """Sky with sun and clouds, ridges of hills growing darker and sharper towards the viewer, towns, sometimes water."""
    y, x = plane(side)
    one = (n, 1, 1, 1)
    top = rgb(0.25, 0.45, 0.85) * uniform(one, 0.1, 1.15, rng) + 0.15 * colours(n, rng)
    bottom = rgb(1.0, 0.8, 0.62) * uniform(one, 0.3, 1.0, rng) * (0.75 + 0.25 * colours(n, rng))
    picture = top + (bottom - top) * ((y + 1) * 0.7).clamp(0, 1)
    sun = ellipse(y, x, uniform(one, -0.9, 0.1, rng), uniform(one, -0.8, 0.8, rng), r := uniform(one, 0.06, 0.25, rng), r, 0.06)
    picture = picture + 0.8 * sun * (rgb(1.0, 0.9, 0.65) - picture)
    cloud = torch.sigmoid((noise(n, 1, side, rng, 0.6, 3) - uniform(one, 0.0, 0.6, rng)) * 7)
    picture = picture + 0.85 * cloud * (uniform(one, 0.55, 1.0, rng) - picture)
    horizon = uniform(one, -0.4, 0.5, rng)
    ground = colours(n, rng) * 0.5 + rgb(0.12, 0.28, 0.1) * uniform(one, 0.2, 1.2, rng)
    texture = noise(n, 1, side, rng, 0.8, 6)
    for k in range(4):
        ridge = noise(n, 1, side, rng, 0.5, 2 + k)[:, :, side // 2 : side // 2 + 1] * uniform(one, 0.05, 0.4, rng)
        height = horizon + 0.22 * k + ridge
        near = (k + 1) / 4
        mask = torch.sigmoid((y - height) * side / 2 / 0.8)
        hill = ground * (1.3 - 0.7 * near) * (1 + 0.5 * near * texture) + (1 - near) * 0.35 * bottom
        picture = picture + mask * (hill - picture)
        if k in (1, 2):
            picture = _towers(picture, y, x, horizon + 0.22 * k, rng)
    water = torch.rand(one, generator=rng) < 0.3
    ripple = 0.03 * torch.sin(y * 60 + 4 * texture)
    level = horizon + 0.35
    mirrored = torch.flip(picture, (2,)) * 0.7 + ripple
    return torch.where(water & (y > level), mirrored, picture).clamp(0, 1)


def _towers(picture: Tensor, y: Tensor, x: Tensor, base: Tensor, rng: Generator) -> Tensor:
    """Paints a few house fronts with windows standing on `base` into half of the pictures."""
    n, side = picture.shape[0], picture.shape[-1]
    one = (n, 1, 1, 1)
    present = (torch.rand(one, generator=rng) < 0.5).float()
    for _ in range(4):
        centre, width, height = uniform(one, -1, 1, rng), uniform(one, 0.06, 0.25, rng), uniform(one, 0.2, 0.9, rng)
        sharp = side / 2 / 0.7
        inside = torch.sigmoid((width - (x - centre).abs()) * sharp) * torch.sigmoid((y - base + height) * sharp)
        inside = inside * torch.sigmoid((base + 0.3 - y) * sharp) * present
        wall = colours(n, rng) * (1 + 0.4 * (x - centre) / width)
        period = uniform(one, 0.05, 0.12, rng)
        window = ((x - centre) / period % 1 > 0.45) & ((y - base) / period % 1 > 0.5)
        front = torch.where(window, uniform((n, 3, 1, 1), 0.1, 1.0, rng), wall)
        picture = picture + inside * (front - picture)
    return picture
