"""Simple portraits: what dead leaves lack, skin, eyes and mouths."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from training.scenes.base import colours, ellipse, noise, plane, rgb, uniform


def portrait(n: int, side: int, rng: Generator) -> Tensor:
    """Head and shoulders before a soft background: hair, skin with shading, eyes, brows, nose, mouth."""
    y, x = plane(side)
    one = (n, 1, 1, 1)
    low, high = colours(n, rng), colours(n, rng)
    picture = low + (high - low) * (0.5 + 0.5 * noise(n, 1, side, rng, 0.5))
    size = uniform(one, 0.28, 0.8, rng)
    tilt = uniform(one, -0.35, 0.35, rng)
    dy, dx = y - uniform(one, -0.4, 0.2, rng), x - uniform(one, -0.45, 0.45, rng)
    v, u = (dy * tilt.cos() - dx * tilt.sin()) / size, (dx * tilt.cos() + dy * tilt.sin()) / size
    grain = noise(n, 1, side, rng, 0.8, 8)
    fine = 1.2 / (size * side / 2)  # edge width: about one pixel, in head units

    def paint(mask: Tensor, colour: Tensor) -> None:
        nonlocal picture
        picture = picture + mask * (colour - picture)

    cloth, hair = colours(n, rng), colours(n, rng) * uniform(one, 0.15, 0.8, rng)
    skin = rgb(0.95, 0.72, 0.58) * uniform(one, 0.25, 1.05, rng) + uniform((n, 3, 1, 1), -0.06, 0.06, rng)
    light = 1 + uniform(one, -0.45, 0.45, rng) * u - 0.15 * v
    body = ellipse(v, u, 2.3, 0.0, uniform(one, 0.9, 1.2, rng), uniform(one, 1.1, 1.7, rng), 0.02)
    paint(body, cloth * (1 + 0.3 * grain) * light)
    locks = ellipse(v, u, uniform(one, -0.35, 0.1, rng), 0.0, uniform(one, 0.9, 1.4, rng), uniform(one, 0.75, 1.1, rng), 0.04)
    paint(locks, hair * (1 + 0.9 * grain))
    paint(ellipse(v, u, 1.0, 0.0, 0.7, uniform(one, 0.3, 0.42, rng), 0.06), skin * 0.8 * light)
    round_ = uniform(one, 0.62, 0.78, rng)
    face = ellipse(v, u, 0.0, 0.0, 0.95, round_, fine)
    paint(face, skin * light * (1 - 0.25 * (u * u + v * v)) * (1 + 0.12 * grain))
    fringe = uniform(one, -0.75, -0.35, rng)
    paint(face * torch.sigmoid((fringe + 0.2 * u * uniform(one, -1, 1, rng) - v) / 0.03), hair * (1 + 0.9 * grain))
    eye_y, eye_x, open_ = uniform(one, -0.2, -0.05, rng), uniform(one, 0.25, 0.34, rng), uniform(one, 0.05, 0.1, rng)
    iris, lips = colours(n, rng) * 0.6, skin * rgb(0.85, 0.5, 0.5)
    for sign in (-1.0, 1.0):
        cx = sign * eye_x
        paint(0.5 * ellipse(v, u, eye_y, cx, open_ * 2.2, 0.24, 0.25), skin * 0.55 * light)
        paint(white := ellipse(v, u, eye_y, cx, open_, 0.15, fine * 8), torch.full_like(skin, 0.92) * light.clamp(max=1))
        paint(white * ellipse(v, u, eye_y, cx, 0.085, 0.085, fine * 10), iris)
        paint(white * ellipse(v, u, eye_y, cx, 0.04, 0.04, fine * 20), torch.full_like(skin, 0.03))
        paint(0.85 * ellipse(v + 0.4 * (u - cx) ** 2, u, eye_y - 0.2, cx, 0.045, 0.2, 0.3), hair * 0.7)
    paint(0.45 * ellipse(v, u, 0.22, 0.07, 0.25, 0.06, 0.35), skin * 0.65 * light)
    paint(0.6 * ellipse(v, u, 0.3, 0.0, 0.045, 0.13, 0.35), skin * 0.5 * light)
    smile = uniform(one, -0.4, 0.6, rng)
    curve = v + smile * u * u
    paint(ellipse(curve, u, 0.56, 0.0, uniform(one, 0.05, 0.1, rng), uniform(one, 0.2, 0.32, rng), 0.12), lips * light)
    gap = ellipse(curve, u, 0.56, 0.0, uniform(one, 0.008, 0.04, rng), 0.22, 0.3)
    paint(0.8 * gap, torch.where(torch.rand(one, generator=rng) < 0.4, 0.9, 0.12) * torch.ones_like(skin))
    return picture.clamp(0, 1)
