"""Procedural pictures: dead leaves, landscapes and towns, and simple portraits, as batched torch operations.

Each generator takes a batch size, a side length and a torch.Generator, and returns (N, 3, S, S) in [0, 1]. Dead leaves
(Lee, Mumford and Huang 2001) share the edge and scale statistics of photographs; the other two add what leaves lack:
skies, horizons, skin and eyes.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

GLYPHS = "ABCDEFGHKMNPRSTXYZabdeghkmnrstxyz0123456789&?!#@%*+="


def uniform(shape: tuple[int, ...], low: float, high: float, rng: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=rng)


def noise(n: int, channels: int, side: int, rng: Generator, falloff: float = 0.55, coarsest: int = 2) -> Tensor:
    """Multi-octave value noise (N, C, S, S) in about [-1, 1]; each octave doubles frequency and loses `falloff`."""
    total = torch.zeros(n, channels, side, side)
    amplitude, cells, norm = 1.0, coarsest, 0.0
    while cells <= side // 2:
        grid = uniform((n, channels, cells + 3, cells + 3), -1, 1, rng)
        total += amplitude * F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
        norm += amplitude
        amplitude *= falloff
        cells *= 2
    return total / norm * 1.6


def rgb(red: float, green: float, blue: float) -> Tensor:
    """A colour as (1, 3, 1, 1)."""
    return torch.tensor([red, green, blue]).view(1, 3, 1, 1)


def colours(n: int, rng: Generator) -> Tensor:
    """(N, 3, 1, 1) colours: hue uniform, saturation mostly low as in photographs, all brightnesses."""
    hue = torch.rand(n, 1, generator=rng) + torch.tensor([[0.0, 1 / 3, 2 / 3]])
    pure = (((hue % 1.0) * 6 - 3).abs() - 1).clamp(0, 1)
    saturation = torch.rand(n, 1, generator=rng) ** 1.5
    value = uniform((n, 1), 0.02, 1.0, rng)
    return (value * (1 - saturation + saturation * pure))[..., None, None]


def plane(side: int) -> tuple[Tensor, Tensor]:
    """Pixel coordinates y, x as (1, 1, S, S) in [-1, 1]."""
    axis = torch.linspace(-1, 1, side)
    return axis.view(1, 1, side, 1).expand(1, 1, side, side), axis.view(1, 1, 1, side).expand(1, 1, side, side)


Scalar = float | Tensor


def ellipse(y: Tensor, x: Tensor, cy: Scalar, cx: Scalar, ry: Scalar, rx: Scalar, soft: Scalar) -> Tensor:
    """Mask (N, 1, S, S) of an axis-parallel ellipse; all arguments broadcast, `soft` is the edge width in radii."""
    radius = torch.sqrt(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 + 1e-9)
    return torch.sigmoid((1 - radius) / soft)


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
