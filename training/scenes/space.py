"""Night and space: cities with their lights, planets, galaxies, the moon."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from training.scenes.base import (
    DUSK,
    NIGHT,
    choose,
    cosine_colours,
    cover,
    ellipse,
    fractal,
    paint,
    picked,
    plane,
    rgb,
    ridge,
    seen,
    shifted,
    sky,
    stars,
    uniform,
)  # fmt: skip
from training.scenes.land import conifers


def city(n: int, side: int, rng: Generator) -> Tensor:
    """A skyline with lit windows at night or dusk, mostly mirrored in water."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    picture, _ = sky(n, side, rng, (NIGHT, NIGHT, DUSK), 0.3)
    shore = uniform(one, 0.2, 0.7, rng)
    glow = choose(((1.0, 0.6, 0.3), (0.7, 0.4, 0.9), (0.3, 0.6, 1.0)), n, rng)
    picture = picture + 0.5 * torch.exp(-(shore - y).clamp_min(0) * 2.2) * glow
    for k in range(3):
        pitch = (0.1, 0.16, 0.24)[k]
        cell = (x + 1) / pitch + uniform(one, 0, 1, rng)
        index = cell.floor()
        count = int(2 / pitch) + 3
        tall = (0.85 - 0.15 * k) * picked(torch.rand(n, count, generator=rng), index) ** 1.4 + 0.12
        gap = picked(torch.rand(n, count, generator=rng), index) * 0.2
        inside = cover(torch.minimum(0.5 - gap - (cell - index - 0.5).abs(), y - shore + tall), side)
        wall = rgb(0.1, 0.12, 0.2) * (1.2 - 0.35 * k) + 0.1 * glow * (1 - 0.3 * k)
        # Windows: one random number per window, laid out on a grid of whole pixels.
        step_y, step_x = 0.055 + 0.012 * k, 0.036 + 0.008 * k
        row, column = (y + 1) / step_y, (x + 1) / step_x
        lots = torch.rand(n, 1, 64, 64, generator=rng).view(n, -1)
        lit = picked(lots, row.floor() * 64 + column.floor())
        pane = ((row % 1) > 0.4) & ((column % 1) > 0.35)
        warm = rgb(1.0, 0.8, 0.45) + (lit * 7 % 1 - 0.5) * rgb(0.0, 0.3, 1.0)
        front = torch.where(pane & (lit < uniform(one, 0.3, 0.6, rng)), warm * (0.55 + 0.15 * k), wall)
        picture = paint(picture, inside, front)
    above = seen(picture, (2 * shore - y).clamp(-1, 1), x + 0.025 * torch.sin(y * 70) * (y - shore).clamp_min(0) * 3)
    wet = torch.rand(one, generator=rng) < 0.8
    below = torch.where(wet, above * rgb(0.6, 0.68, 0.8) + 0.02, rgb(0.05, 0.05, 0.08))
    return paint(picture, cover(y - shore, side), below).clamp(0, 1)


def planet(n: int, side: int, rng: Generator) -> Tensor:
    """A banded or cloudy globe lit from one side before stars, often with rings."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    picture = _space(n, side, rng)
    radius, cy, cx = uniform(one, 0.32, 0.6, rng), uniform(one, -0.25, 0.25, rng), uniform(one, -0.3, 0.3, rng)
    tilt = uniform(one, -0.6, 0.6, rng)
    dy, dx = (y - cy) / radius, (x - cx) / radius
    v, u = dy * tilt.cos() - dx * tilt.sin(), dx * tilt.cos() + dy * tilt.sin()
    square = (u * u + v * v).clamp(max=1)
    z = torch.sqrt(1 - square + 1e-4)
    turbulence = fractal(n, side, rng, (4, 3), 6, 0.6)
    swirl = seen(turbulence, v * 0.7, (u * 0.6 / (0.5 + 0.5 * z)).clamp(-1, 1))
    bands = v * uniform(one, 1.0, 2.6, rng) + 0.14 * swirl
    blots = 0.7 * swirl
    banded = torch.rand(one, generator=rng) < 0.6
    surface = cosine_colours(torch.where(banded, bands, blots), rng, 0.33) * (0.9 + 0.25 * swirl)
    angle = uniform(one, 0, 6.2832, rng)
    lamp = (0.75 * (dx * angle.cos() + dy * angle.sin()) + 0.62 * z).clamp(0.015, 1)
    rim = (1 - z) ** 3
    globe = surface * lamp * 1.3 + 0.35 * rim * lamp * rgb(0.6, 0.8, 1.0)
    mask = cover((1 - torch.sqrt(dx * dx + dy * dy + 1e-6)) * radius, side)
    around = torch.sqrt(u * u + (v / uniform(one, 0.12, 0.35, rng)) ** 2 + 1e-6)
    inside = ((around - 1.3) / 0.85).clamp(0, 1)
    grooves = 0.6 + 0.4 * seen(ridge(n, side, rng, 9, 3, 0.8).expand(n, 1, side, side), torch.zeros_like(inside), inside * 2 - 1)
    ring = torch.sigmoid((around - 1.3) * 40) * torch.sigmoid((2.15 - around) * 40) * grooves.clamp(0, 1)
    ring = ring * (torch.rand(one, generator=rng) < 0.6)
    colour = choose(((0.9, 0.8, 0.62), (0.75, 0.72, 0.8), (0.85, 0.65, 0.5)), n, rng)
    behind = (v < 0).float()
    picture = paint(picture, 0.85 * ring * behind, colour)
    picture = paint(picture, mask, globe)
    return paint(picture, 0.85 * ring * (1 - behind), colour).clamp(0, 1)


def _space(n: int, side: int, rng: Generator) -> Tensor:
    """Stars and faint coloured nebulae on black."""
    clouds = torch.relu(fractal(n, side, rng, (2, 2), 6, 0.6) - 0.1)
    tint = choose(((0.4, 0.15, 0.5), (0.1, 0.3, 0.55), (0.5, 0.2, 0.25), (0.1, 0.4, 0.4)), n, rng)
    return rgb(0.01, 0.01, 0.035) + 0.45 * clouds * tint + stars(n, side, rng, 0.006)


def galaxy(n: int, side: int, rng: Generator) -> Tensor:
    """A spiral of blue and pink arms round a yellow core, tilted, among stars."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    turn, squeeze = uniform(one, 0, 3.1416, rng), uniform(one, 1.0, 2.2, rng)
    dy, dx = y - uniform(one, -0.2, 0.2, rng), x - uniform(one, -0.2, 0.2, rng)
    v, u = (dy * turn.cos() - dx * turn.sin()) * squeeze, dx * turn.cos() + dy * turn.sin()
    grain = fractal(n, side, rng, (4, 4), 6, 0.72)
    r = torch.sqrt(u * u + v * v + 1e-4)
    spin = torch.where(torch.rand(one, generator=rng) < 0.5, -1.0, 1.0)
    phase = 2 * torch.atan2(v, u) * spin + uniform(one, 3.5, 6.0, rng) * torch.log(r + 0.08) + 0.9 * grain
    size = uniform(one, 0.3, 0.5, rng)
    disc = torch.exp(-((r / size) ** 2) * 0.9)
    arm = (0.5 + 0.5 * torch.cos(phase)) ** 2
    cold = choose(((0.35, 0.55, 1.0), (0.5, 0.45, 1.0), (0.3, 0.75, 0.95)), n, rng)
    pink = torch.sigmoid((grain - 0.35) * 9) * arm
    light = disc * (0.2 + 1.0 * arm) * (0.75 + 0.5 * grain)
    picture = _space(n, side, rng) + light * cold + 0.5 * pink * disc * rgb(1.0, 0.3, 0.5)
    core = torch.exp(-((r / (0.28 * size)) ** 2))
    return (picture + core * rgb(1.0, 0.88, 0.62) + stars(n, side, rng, 0.01) * disc).clamp(0, 1)


def moon(n: int, side: int, rng: Generator) -> Tensor:
    """A large moon with seas and craters over dark hills and firs."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    picture, _ = sky(n, side, rng, (NIGHT, NIGHT, DUSK), 0.15)
    radius, cy, cx = uniform(one, 0.22, 0.5, rng), uniform(one, -0.5, -0.05, rng), uniform(one, -0.5, 0.5, rng)
    dy, dx = (y - cy) / radius, (x - cx) / radius
    r = torch.sqrt(dx * dx + dy * dy + 1e-6)
    picture = picture + 0.35 * torch.exp(-(r.clamp_min(1) - 1) * 2.2) * rgb(0.7, 0.75, 0.9)
    spots = fractal(n, side, rng, (5, 5), 6, 0.66)
    relief = 3.0 * (spots - shifted(spots, 2, 2))
    tint = choose(((0.97, 0.95, 0.88), (1.0, 0.86, 0.6), (0.85, 0.9, 1.0), (1.0, 0.66, 0.45)), n, rng)
    seas = 1 - 0.4 * torch.sigmoid((spots - 0.1) * 6)
    picture = paint(picture, cover((1 - r) * radius, side), tint * (seas + 0.16 * relief) * (1 - 0.15 * r * r))
    wisps = torch.sigmoid((fractal(n, side, rng, (9, 2), 5, 0.6) - 0.45) * 6)
    picture = paint(picture, 0.45 * wisps, rgb(0.3, 0.33, 0.45))
    for k in range(2):
        top = 0.4 + 0.25 * k - 0.16 * ridge(n, side, rng, 3, 5, 0.45, "cubic")
        picture = paint(picture, cover(y - top, side), rgb(0.1, 0.13, 0.24) * (1 - 0.55 * k))
    return conifers(picture, rng, uniform(one, 0.85, 1.1, rng), rgb(0.02, 0.03, 0.06).expand(n, 3, 1, 1), 0.17, 0.4).clamp(0, 1)


def flowers(n: int, side: int, rng: Generator) -> Tensor:
    """Flowers with round or pointed petals before soft leaves."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    green = choose(((0.12, 0.34, 0.14), (0.25, 0.45, 0.2), (0.08, 0.26, 0.2), (0.5, 0.62, 0.4)), n, rng)
    picture = green * (0.95 + 0.5 * fractal(n, side, rng, (3, 3), 3, 0.5))
    for _ in range(6):
        spot = uniform(one, 0.08, 0.3, rng)
        blur = ellipse(y, x, uniform(one, -1, 1, rng), uniform(one, -1, 1, rng), spot, spot, 0.25)
        picture = paint(picture, 0.4 * blur, green * uniform(one, 0.5, 1.9, rng) + 0.1)
    hues = (
        (0.95, 0.2, 0.3),
        (1.0, 0.75, 0.1),
        (0.98, 0.97, 0.93),
        (0.95, 0.45, 0.7),
        (0.55, 0.3, 0.85),
        (1.0, 0.5, 0.15),
        (0.4, 0.5, 0.95),
    )
    kind = choose(hues, n, rng)
    for k in range(6):
        size = uniform(one, 0.2, 0.34, rng) * (0.75 + 0.11 * k)
        cy, cx = uniform(one, -0.7, 0.6, rng), uniform(one, -0.8, 0.8, rng)
        stem = cover(0.014 - (x - cx - 0.12 * torch.sin((y - cy) * 2)).abs(), side) * torch.sigmoid((y - cy) * 60)
        picture = paint(picture, stem, green * 0.75)
        dy, dx = (y - cy) / size, (x - cx) / (size * uniform(one, 0.8, 1.0, rng))
        r, angle = torch.sqrt(dx * dx + dy * dy + 1e-6), torch.atan2(dy, dx) + uniform(one, 0, 6.28, rng)
        petals = torch.randint(5, 14, one, generator=rng).float()
        lobe = torch.cos(petals * angle / 2).abs()
        edge = 0.55 + 0.45 * lobe ** uniform(one, 0.4, 1.2, rng)
        hue = torch.where(torch.rand(one, generator=rng) < 0.75, kind, choose(hues, n, rng))
        shade = 0.62 + 0.38 * lobe * (0.4 + 0.6 * r.clamp(0, 1)) + 0.06 * torch.cos(petals * 4 * angle)
        picture = paint(picture, 0.35 * cover((edge + 0.1 - r) * size, side, 12.0), picture * 0.35)
        picture = paint(picture, cover((edge - r) * size, side), hue * shade)
        heart = uniform(one, 0.2, 0.36, rng)
        seeds = 0.8 + 0.3 * torch.sin(38 * r) * torch.cos(21 * angle)
        centre = choose(((0.95, 0.75, 0.15), (0.4, 0.24, 0.08), (0.9, 0.88, 0.4)), n, rng)
        picture = paint(picture, cover((heart - r) * size, side), centre * seeds)
    return picture.clamp(0, 1)
