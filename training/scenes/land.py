"""Land: mountains, forests, deserts, fields, snow, volcanoes, rivers."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from training.scenes.base import (
    DAY,
    DUSK,
    MORNING,
    NIGHT,
    OVERCAST,
    choose,
    cover,
    ellipse,
    fractal,
    ground_plane,
    paint,
    picked,
    plane,
    rgb,
    ridge,
    seen,
    shifted,
    sky,
    uniform,
)  # fmt: skip

GREENS = ((0.2, 0.36, 0.12), (0.32, 0.46, 0.16), (0.14, 0.3, 0.16), (0.45, 0.5, 0.2))
ROCKS = ((0.36, 0.34, 0.36), (0.42, 0.34, 0.28), (0.28, 0.32, 0.4), (0.46, 0.4, 0.36))
SANDS = ((0.9, 0.68, 0.4), (0.82, 0.55, 0.32), (0.95, 0.8, 0.58), (0.76, 0.42, 0.26))


def hills(picture: Tensor, rng: Generator, light: Tensor, horizon: Tensor, colour: Tensor, layers: int = 3) -> Tensor:
    """Round hills, bluish in the distance, the nearest darkest."""
    n, _, side, _ = picture.shape
    y, _ = plane(side)
    for k in range(layers):
        near = (k + 1) / layers
        top = horizon + 0.16 * k - 0.12 * ridge(n, side, rng, 2 + k, 4, 0.45, "cubic")
        haze = rgb(0.62, 0.72, 0.84) * 0.9
        tone = (colour * (1.15 - 0.4 * near) * near + haze * (1 - near)) * light
        picture = paint(picture, cover(y - top, side), tone * (1 - 0.12 * (y - top).clamp(0, 1)))
    return picture


def conifers(picture: Tensor, rng: Generator, base: Tensor, colour: Tensor, pitch: float, height: float) -> Tensor:
    """A row of firs whose feet stand at `base`, one per `pitch`, of about `height`."""
    n, _, side, _ = picture.shape
    y, x = plane(side)
    count = int(2 / pitch) + 2
    for shift in (0.0, 0.5):
        cell = (x + 1) / pitch + shift
        index = cell.floor()
        tall = height * (0.55 + 0.45 * picked(torch.rand(n, count, generator=rng), index))
        off = (cell - index - 0.5 + 0.3 * (picked(torch.rand(n, count, generator=rng), index) - 0.5)).abs() * pitch
        down = (y - base + tall) / tall  # 0 at the tip, 1 at the foot
        tiers = (down * 5) % 1.0
        width = 0.5 * pitch * (0.25 + 0.75 * down) * (0.55 + 0.45 * tiers) * down.clamp(0, 1).sqrt()
        mask = cover(width - off, side) * (down > 0)
        picture = paint(picture, mask, colour * (0.75 + 0.4 * down.clamp(0, 1)))
    return paint(picture, cover(y - base + 0.02, side), colour * 0.8)


def mountains(n: int, side: int, rng: Generator) -> Tensor:
    """Ranges of jagged peaks, lit from one side, with snow on the highest."""
    one = (n, 1, 1, 1)
    y, _ = plane(side)
    picture, light = sky(n, side, rng)
    horizon, sun = uniform(one, -0.35, 0.1, rng), torch.where(torch.rand(one, generator=rng) < 0.5, -1.0, 1.0)
    rock, snow_line = choose(ROCKS, n, rng), uniform(one, -0.25, 0.25, rng)
    for k in range(4):
        near = (k + 1) / 4
        shape = 1 - 1.7 * ridge(n, side, rng, 1 + k // 2, 6, 0.42).abs()
        top = horizon + 0.21 * k - (0.42 - 0.06 * k) * shape
        folds = fractal(n, side, rng, (2, 3), 6, 0.55)
        relief = torch.tanh(9 * (folds - shifted(folds, 0, 2)) * sun)
        stone = rock * (0.9 + 0.5 * relief)
        snow = torch.sigmoid((snow_line - y + 0.25 * folds) * 14) * (1 - 0.5 * near)
        stone = paint(stone, snow, rgb(0.95, 0.97, 1.0) * (0.85 + 0.25 * relief))
        distance = rgb(0.66, 0.76, 0.88)
        tone = (stone * near**0.5 + distance * (1 - near**0.5)) * light
        picture = paint(picture, cover(y - top, side), tone)
    return conifers(picture, rng, uniform(one, 0.78, 1.05, rng), rgb(0.08, 0.16, 0.1) * light, 0.14, 0.3).clamp(0, 1)


def forest(n: int, side: int, rng: Generator) -> Tensor:
    """Firs in rows, misty behind and dark in front."""
    one = (n, 1, 1, 1)
    picture, light = sky(n, side, rng, (DAY, MORNING, OVERCAST, DUSK))
    mist = picture.mean((2, 3), keepdim=True)
    green = choose(((0.05, 0.2, 0.1), (0.1, 0.26, 0.08), (0.03, 0.16, 0.14), (0.32, 0.2, 0.04)), n, rng, 0.03)
    start = uniform(one, -0.4, 0.0, rng)
    for k in range(4):
        near = (k + 1) / 4
        base = start + 0.36 * k + 0.08 * ridge(n, side, rng, 2, 2, 0.5, "cubic")
        colour = (green * light * 1.1) * near + mist * (1 - near)
        picture = conifers(picture, rng, base, colour, 0.13 + 0.12 * k, 0.36 + 0.2 * k)
    return picture.clamp(0, 1)


def desert(n: int, side: int, rng: Generator) -> Tensor:
    """Dunes with sharp crests, a lit and a shaded side, wind ripples."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    picture, light = sky(n, side, rng, (DAY, DAY, MORNING, DUSK), 0.2)
    radius = uniform(one, 0.07, 0.16, rng)
    sun = ellipse(y, x, uniform(one, -0.8, -0.3, rng), uniform(one, -0.8, 0.8, rng), radius, radius, 0.06)
    picture = paint(picture, sun, rgb(1.0, 0.94, 0.78))
    sand, horizon = choose(SANDS, n, rng) * light, uniform(one, -0.3, 0.1, rng)
    for k in range(4):
        line = ridge(n, side, rng, 2, 2, 0.4, "cubic")
        top = horizon + 0.27 * k - (0.14 + 0.05 * k) * line
        below = y - top
        # The crest throws a shadow on its steep side: a band under it whose lower border wanders.
        foot = (0.1 + 0.06 * k) * (0.6 + ridge(n, side, rng, 2, 2, 0.4, "cubic")).clamp_min(0)
        shade = cover(foot - below, side, 2.0)
        wind = 0.045 * torch.sin((below * (60 - 10 * k) + 2 * line) * 1.6 + 3 * x)
        tone = sand * (1.02 - 0.13 * below + wind - 0.045 * (3 - k))
        tone = paint(tone, 0.85 * shade, sand * rgb(0.58, 0.44, 0.46))
        picture = paint(picture, cover(below, side), tone)
    return picture.clamp(0, 1)


def field(n: int, side: int, rng: Generator) -> Tensor:
    """Rows of crops that meet at the horizon, hills behind."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    picture, light = sky(n, side, rng, (DAY, DAY, MORNING, DUSK))
    horizon = uniform(one, -0.25, 0.1, rng)
    picture = hills(picture, rng, light, horizon - 0.12, choose(GREENS, n, rng), 2)
    crop = choose(((0.86, 0.7, 0.25), (0.4, 0.55, 0.16), (0.6, 0.42, 0.7), (0.75, 0.62, 0.2), (0.85, 0.3, 0.25)), n, rng)
    depth, across = ground_plane(y, x - uniform(one, -0.7, 0.7, rng), horizon)
    rows = torch.sin(across * uniform(one, 9, 16, rng))
    clods = seen(fractal(n, side, rng, (8, 8), 4, 0.8), depth * 0.35, across * 0.35)
    near = (1.4 / depth).clamp(0, 1)
    tone = crop * (0.82 + 0.2 * rows * near + 0.3 * clods * near) * light
    soil = rgb(0.3, 0.24, 0.12) * light
    tone = paint(tone, torch.sigmoid(-6 * rows - 3) * near, soil)
    return paint(picture, cover(y - horizon, side), tone).clamp(0, 1)


def snow(n: int, side: int, rng: Generator) -> Tensor:
    """White hills with firs under falling flakes."""
    one = (n, 1, 1, 1)
    y, _ = plane(side)
    picture, light = sky(n, side, rng, (OVERCAST, MORNING, NIGHT, DUSK))
    light = 0.25 + 0.75 * light
    horizon = uniform(one, -0.2, 0.2, rng)
    for k in range(3):
        top = horizon + 0.24 * k - 0.13 * ridge(n, side, rng, 2 + k, 3, 0.4, "cubic")
        if k:
            firs = rgb(0.3, 0.38, 0.42) * light * (1.3 - 0.35 * k)
            picture = conifers(picture, rng, top + 0.04, firs, 0.1 + 0.06 * k, 0.3 + 0.14 * k)
        white = rgb(0.92, 0.95, 1.0) * light * (1 - 0.2 * (y - top).clamp(0, 1))
        picture = paint(picture, cover(y - top, side), white)
    for size, share in ((2, 0.004), (4, 0.006)):
        cells = max(8, side // size)
        flakes = (torch.rand(n, 1, cells, cells, generator=rng) < share).float()
        soft = torch.nn.functional.interpolate(flakes, size=(side, side), mode="bilinear", align_corners=False)
        picture = paint(picture, (1.4 * soft).clamp(0, 0.95), rgb(1.0, 1.0, 1.0))
    return picture.clamp(0, 1)


def volcano(n: int, side: int, rng: Generator) -> Tensor:
    """A dark cone with glowing streams and a plume lit from below."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    picture, light = sky(n, side, rng, (NIGHT, DUSK, DUSK), 0.4)
    centre, peak = uniform(one, -0.35, 0.35, rng), uniform(one, -0.45, -0.1, rng)
    u, down = x - centre, y - peak
    smoke = fractal(n, side, rng, (4, 3), 5, 0.6)
    plume = torch.exp(-(((u + 0.3 * down * smoke) / (0.09 + 0.35 * (-down).clamp(0, 2))) ** 2)) * torch.sigmoid(-down * 12)
    ember = torch.exp(2.2 * down.clamp(max=0))
    cloud = rgb(0.3, 0.26, 0.28) * (0.7 + 0.4 * smoke) + rgb(0.95, 0.3, 0.08) * ember
    picture = paint(picture, (plume * (0.75 + 0.4 * smoke)).clamp(0, 1), cloud)
    flank = 0.09 + uniform(one, 0.65, 1.0, rng) * down.clamp_min(0) ** 1.25 + 0.03 * fractal(n, side, rng, (6, 6), 4)
    cone = cover(flank - u.abs(), side) * cover(down, side)
    folds = fractal(n, side, rng, (4, 8), 5, 0.65)
    rock = (rgb(0.16, 0.12, 0.14) + 0.1 * (folds - shifted(folds, 0, 2)) * 3) * (0.5 + light)
    picture = paint(picture, cone, rock)
    for k in range(4):
        bend = ridge(n, side, rng, 3, 3, 0.5, "cubic").transpose(2, 3) * 0.16
        path = u - bend - (k - 1.5) * uniform(one, 0.12, 0.3, rng) * down
        width = 0.012 + 0.03 * down.clamp(0, 1)
        lava = torch.exp(-((path / width) ** 2)) * cone * torch.sigmoid((uniform(one, 0.3, 1.3, rng) - down) * 9)
        picture = (
            picture + lava * rgb(1.0, 0.42, 0.06) + 0.25 * torch.exp(-((path / (5 * width)) ** 2)) * cone * rgb(0.7, 0.1, 0.02)
        )
    crater = torch.exp(-(u * u + down * down * 3) / 0.012)
    return (picture + crater * rgb(1.0, 0.7, 0.25)).clamp(0, 1)


def river(n: int, side: int, rng: Generator) -> Tensor:
    """A river that winds through meadows towards hills and mirrors the sky."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    picture, light = sky(n, side, rng)
    heaven, horizon = picture, uniform(one, -0.3, 0.05, rng)
    picture = hills(picture, rng, light, horizon - 0.15, choose(GREENS, n, rng), 2)
    depth, across = ground_plane(y, x, horizon)
    tufts = seen(fractal(n, side, rng, (8, 8), 4, 0.8), depth * 0.5, across * 0.5)
    meadow = choose(GREENS, n, rng) * (1 + 0.4 * tufts) * light
    picture = paint(picture, cover(y - horizon, side), meadow)
    bend = uniform(one, 0.35, 0.8, rng) * torch.sin(depth * uniform(one, 0.7, 1.5, rng) + uniform(one, 0, 6.28, rng))
    off = (across - bend * depth.clamp(max=4) * 0.6).abs()
    width = uniform(one, 0.3, 0.5, rng)
    water = cover((width - off) / depth, side) * cover(y - horizon, side)
    bank = cover((width * 1.25 - off) / depth, side) * cover(y - horizon, side)
    picture = paint(picture, bank, picture * 0.55)
    mirrored = heaven.flip(2) * 0.9 + 0.04 * torch.sin(depth * 40 + 5 * tufts)
    return paint(picture, water, mirrored).clamp(0, 1)
