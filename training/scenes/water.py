"""Water: seas, islands, sunsets, the world below the surface."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from training.scenes.base import (
    DAY,
    DUSK,
    MORNING,
    NIGHT,
    choose,
    cover,
    ellipse,
    fractal,
    ground_plane,
    paint,
    plane,
    rgb,
    ridge,
    seen,
    shifted,
    sky,
    uniform,
)  # fmt: skip

WATERS = ((0.05, 0.28, 0.42), (0.02, 0.38, 0.45), (0.08, 0.2, 0.36), (0.06, 0.42, 0.5))


def water(picture: Tensor, rng: Generator, horizon: Tensor, light: Tensor, glint: Tensor | None = None) -> Tensor:
    """Waves below `horizon` in perspective, mirroring the colours above; a glittering path below `glint` (N, 1, 1, 1)."""
    n, _, side, _ = picture.shape
    y, x = plane(side)
    depth, across = ground_plane(y, x, horizon, 0.3)
    first = seen(fractal(n, side, rng, (12, 4), 4, 0.7), depth * 0.9, across * 0.8)
    second = seen(fractal(n, side, rng, (16, 8), 3, 0.7), depth * 2.3, across * 1.9)
    swell = (0.65 * first + 0.5 * second) * (0.9 / depth.sqrt()).clamp(0, 1)
    mirrored = picture.mean(3, keepdim=True).flip(2)
    deep = choose(WATERS, n, rng) * (0.3 + 0.8 * light)
    nearness = ((y - horizon) * 1.1).clamp(0, 1)
    tone = paint(mirrored * 0.8, 0.35 + 0.5 * nearness, deep) * (1 + 0.5 * swell)
    foam = torch.sigmoid((swell - 0.62) * 16) * nearness
    tone = paint(tone, 0.7 * foam, 0.35 + 0.6 * light)
    if glint is not None:
        path = torch.exp(-(((x - glint) / (0.08 + 0.3 * nearness)) ** 2))
        tone = tone + path * torch.sigmoid((second + 0.4 * first - 0.12) * 10) * rgb(1.0, 0.85, 0.6)
    return paint(picture, cover(y - horizon, side), tone.clamp(0, 1))


def sea(n: int, side: int, rng: Generator) -> Tensor:
    """Open sea, sometimes with a sail."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    picture, light = sky(n, side, rng)
    horizon = uniform(one, -0.35, 0.05, rng)
    picture = water(picture, rng, horizon, light, uniform(one, -0.7, 0.7, rng))
    sail_x, size = uniform(one, -0.7, 0.7, rng), uniform(one, 0.12, 0.3, rng)
    present = torch.rand(one, generator=rng) < 0.5
    foot = horizon + 0.1
    u, up = (x - sail_x) / size, (foot - y) / size
    cloth = cover(torch.minimum(torch.minimum((1.5 - up) * 0.45 - u, u + 0.02), up - 0.2) * size, side)
    jib = cover(torch.minimum(torch.minimum((1.2 - up) * 0.35 + u, -u - 0.05), up - 0.2) * size, side)
    hull = cover(torch.minimum(0.55 - 0.6 * (0.1 - up) - u.abs(), 0.12 - (up - 0.03).abs()) * size, side)
    picture = paint(picture, present * torch.maximum(cloth, jib), rgb(0.98, 0.95, 0.9) * (0.4 + 0.6 * light))
    return paint(picture, present * hull, choose(((0.5, 0.16, 0.1), (0.15, 0.2, 0.35), (0.35, 0.22, 0.12)), n, rng)).clamp(0, 1)


def sunset(n: int, side: int, rng: Generator) -> Tensor:
    """A low sun in layers of orange, pink and violet cloud, over water or hills."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    horizon = uniform(one, 0.05, 0.4, rng)
    zenith = choose(((0.16, 0.12, 0.4), (0.3, 0.14, 0.4), (0.12, 0.2, 0.45), (0.4, 0.16, 0.3)), n, rng)
    middle = choose(((0.95, 0.35, 0.32), (0.98, 0.5, 0.25), (0.9, 0.3, 0.48)), n, rng)
    low = choose(((1.0, 0.8, 0.36), (1.0, 0.7, 0.4), (1.0, 0.86, 0.55)), n, rng)
    up = ((horizon - y) / (horizon + 1)).clamp(0, 1)
    picture = paint(paint(low.expand(n, 3, side, side), (up * 2.4).clamp(0, 1), middle), (up * 1.9 - 0.7).clamp(0, 1), zenith)
    bands = fractal(n, side, rng, (6, 1), 5, 0.6)
    lit = paint(rgb(1.0, 0.6, 0.35), up, middle * 0.8)
    picture = paint(picture, torch.sigmoid((bands - 0.25) * 8) * 0.8, lit * (0.8 + 0.2 * bands))
    sun_x, radius = uniform(one, -0.6, 0.6, rng), uniform(one, 0.1, 0.22, rng)
    sun_y = horizon - radius * uniform(one, -0.2, 1.3, rng)
    halo = torch.exp(-((x - sun_x) ** 2 + (y - sun_y) ** 2) / (radius * radius * 9))
    picture = picture + 0.45 * halo * rgb(1.0, 0.7, 0.3)
    picture = paint(picture, ellipse(y, x, sun_y, sun_x, radius, radius, 0.04), rgb(1.0, 0.93, 0.66))
    at_sea = water(picture, rng, horizon, torch.full((n, 3, 1, 1), 0.35), sun_x)
    top = horizon - 0.13 * ridge(n, side, rng, 3, 5, 0.5)
    on_land = paint(picture, cover(y - top, side), rgb(0.09, 0.05, 0.12))
    return torch.where(torch.rand(one, generator=rng) < 0.65, at_sea, on_land).clamp(0, 1)


def island(n: int, side: int, rng: Generator) -> Tensor:
    """A green island with a beach and palms in a clear sea."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    picture, light = sky(n, side, rng, (DAY, DAY, MORNING, DUSK))
    horizon, centre, wide = uniform(one, -0.15, 0.15, rng), uniform(one, -0.35, 0.35, rng), uniform(one, 0.45, 0.75, rng)
    picture = water(picture, rng, horizon, light)
    shore = horizon + 0.16
    form = (1 - ((x - centre) / wide) ** 2).clamp_min(0)
    shallow = ellipse(y, x, shore, centre, 0.2, wide * 1.25, 0.12)
    picture = paint(picture, 0.65 * shallow, rgb(0.35, 0.85, 0.78) * light)
    picture = paint(picture, ellipse(y, x, shore, centre, 0.1, wide * 1.02, 0.05), rgb(0.96, 0.88, 0.66) * light)
    bumps = 1 + 0.35 * ridge(n, side, rng, 5, 5, 0.55, "cubic")
    height = uniform(one, 0.15, 0.5, rng) * form.sqrt() * bumps
    leafy = fractal(n, side, rng, (12, 12), 4, 0.75)
    green = choose(((0.16, 0.42, 0.14), (0.24, 0.5, 0.16), (0.1, 0.36, 0.2)), n, rng) * (
        0.9 + 0.55 * (leafy - shifted(leafy, 2, 2))
    )
    picture = paint(
        picture, cover(torch.minimum(y - shore + height, shore - y) * (form > 0.02), side) * (form > 0.02), green * light
    )
    for _ in range(3):
        foot_x = centre + wide * uniform(one, -0.8, 0.8, rng)
        picture = _palm(picture, rng, shore + 0.02, foot_x, uniform(one, 0.35, 0.65, rng), light)
    return picture.clamp(0, 1)


def _palm(picture: Tensor, rng: Generator, foot_y: Tensor, foot_x: Tensor, height: Tensor, light: Tensor) -> Tensor:
    n, _, side, _ = picture.shape
    y, x = plane(side)
    lean = uniform((n, 1, 1, 1), -0.4, 0.4, rng)
    up = (foot_y - y) / height  # 0 at the foot, 1 at the crown
    off = x - foot_x - lean * height * up * up
    trunk = cover(0.018 - off.abs(), side) * cover(torch.minimum(up, 1 - up) * height, side)
    picture = paint(picture, trunk, rgb(0.42, 0.28, 0.16) * light)
    crown_y, crown_x = foot_y - height, foot_x + lean * height
    dy, dx = y - crown_y, x - crown_x
    distance = torch.sqrt(dy * dy + dx * dx + 1e-6)
    drooped = torch.atan2(dy - 1.3 * dx * dx / height, dx)
    leaf = (0.5 + 0.5 * torch.cos(7 * drooped + 6 * lean)) - distance / (0.62 * height)
    return paint(picture, cover(leaf * 0.1, side), rgb(0.12, 0.36, 0.1) * light * (0.8 + 0.5 * torch.cos(21 * drooped)))


def underwater(n: int, side: int, rng: Generator) -> Tensor:
    """Below the surface: rays of light, corals on the ground, fish, bubbles."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    bright = choose(((0.35, 0.85, 0.9), (0.25, 0.7, 0.95), (0.4, 0.9, 0.75)), n, rng)
    deep = choose(((0.0, 0.12, 0.32), (0.0, 0.18, 0.3), (0.02, 0.08, 0.28)), n, rng, 0.03)
    picture = paint(bright.expand(n, 3, side, side), ((y + 1) * 0.62).clamp(0, 1) ** 0.7, deep)
    origin = uniform(one, -0.6, 0.6, rng)
    angle = (x - origin) / (y + 1.7)
    beams = (ridge(n, side, rng, 9, 3, 0.7, "cubic")).expand(n, 1, side, side)
    rays = seen(beams, torch.zeros_like(angle), angle.clamp(-1, 1)).clamp(0, 1)
    picture = picture + 0.3 * rays * (0.75 - 0.5 * y).clamp(0, 1) * rgb(0.7, 1.0, 0.95)
    for k in range(2):
        top = 0.55 + 0.22 * k - 0.22 * ridge(n, side, rng, 7 + 3 * k, 5, 0.7, "cubic").abs()
        knobs = fractal(n, side, rng, (14, 14), 3, 0.8)
        coral = choose(((0.9, 0.32, 0.4), (0.95, 0.55, 0.25), (0.6, 0.3, 0.7), (0.85, 0.75, 0.35)), n, rng)
        tone = paint(coral * (0.6 + 0.45 * knobs), 0.55 - 0.35 * k, deep)
        picture = paint(picture, cover(y - top, side), tone)
    for _ in range(5):
        size, fish_y, fish_x = uniform(one, 0.05, 0.15, rng), uniform(one, -0.6, 0.5, rng), uniform(one, -0.8, 0.8, rng)
        side_ = torch.where(torch.rand(one, generator=rng) < 0.5, -1.0, 1.0)
        u, v = (x - fish_x) * side_ / size, (y - fish_y) / size
        body = cover((1 - torch.sqrt((u / 1.1) ** 2 + (v / 0.55) ** 2 + 1e-6)) * 0.5 * size, side)
        tail = cover(torch.minimum(torch.minimum(-u - 0.8, u + 1.7), -(u + 0.8) * 0.75 - v.abs()) * size, side)
        hue = choose(((1.0, 0.6, 0.1), (0.98, 0.9, 0.25), (0.9, 0.25, 0.25), (0.3, 0.55, 0.95), (0.95, 0.95, 1.0)), n, rng)
        bands = 0.85 + 0.25 * torch.tanh(4 * torch.sin(u * 5))
        picture = paint(picture, torch.maximum(body, tail), hue * bands)
        picture = paint(
            picture, cover((0.13 - torch.sqrt((u - 0.65) ** 2 + (v + 0.12) ** 2 + 1e-6)) * size, side), rgb(0.03, 0.03, 0.05)
        )
    for _ in range(5):
        radius = uniform(one, 0.015, 0.05, rng)
        away = torch.sqrt((y - uniform(one, -0.9, 0.6, rng)) ** 2 + (x - uniform(one, -0.9, 0.9, rng)) ** 2 + 1e-6)
        picture = picture + 0.55 * torch.exp(-(((away - radius) / 0.009) ** 2))
    return picture.clamp(0, 1)


def clouds(n: int, side: int, rng: Generator) -> Tensor:
    """Heaped clouds with bright edges and shaded undersides, seen from the ground or from above."""
    one = (n, 1, 1, 1)
    picture, light = sky(n, side, rng, (DAY, DAY, DAY, MORNING, DUSK, NIGHT), 0.2)
    y, _ = plane(side)
    for k in range(3):
        form = fractal(n, side, rng, (2 + k, 1 + k), 6, 0.5)
        level = uniform(one, 0.0, 0.7, rng) - 0.25 * k * y
        mask = torch.sigmoid((form - level) * 6)
        thick = F.interpolate(F.avg_pool2d(form, side // 32), size=(side, side), mode="bilinear", align_corners=False)
        relief = (thick - shifted(thick, side // 24, side // 40)) * 0.75 + (form - thick) * 0.22
        tone = (0.84 + 0.4 * relief - 0.12 * mask) * (0.3 + 0.7 * light) + 0.06
        picture = paint(picture, 0.95 * mask, tone)
    return picture.clamp(0, 1)
