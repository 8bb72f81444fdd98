"""Abstract patterns: waves, stripes, circles, marble, spirals, checks."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from training.scenes.base import choose, cosine_colours, fractal, paint, plane, rgb, seen, two, uniform

PAIRS = (
    (0.95, 0.92, 0.84), (0.12, 0.16, 0.3), (0.9, 0.3, 0.25), (0.98, 0.75, 0.25), (0.1, 0.5, 0.55), (0.45, 0.2, 0.5),
    (0.85, 0.85, 0.9), (0.2, 0.6, 0.35), (0.95, 0.55, 0.65), (0.06, 0.06, 0.08),
)  # fmt: skip


def _turned(n: int, side: int, rng: Generator) -> tuple[Tensor, Tensor]:
    """Coordinates v, u turned by a random angle, (N, 1, S, S)."""
    y, x = plane(side)
    angle = uniform((n, 1, 1, 1), 0, 6.2832, rng)
    return y * angle.cos() - x * angle.sin(), x * angle.cos() + y * angle.sin()


def _quantised(t: Tensor, steps: Tensor, side: int) -> Tensor:
    """t in whole steps with edges of about a pixel; t changes by about 2 per picture side."""
    scaled = t * steps
    base = scaled.floor()
    return (base + torch.sigmoid((scaled - base - 0.5) * side / 4 / steps)) / steps


def waves(n: int, side: int, rng: Generator) -> Tensor:
    """Stacked wavy bands that run through a range of colours."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    bend = uniform(one, 0.05, 0.16, rng) * torch.sin(x * uniform(one, 3, 9, rng) + uniform(one, 0, 6.28, rng) + 2 * y)
    t = y + bend + 0.05 * torch.sin(x * uniform(one, 9, 15, rng) + 5 * y)
    steps = torch.randint(4, 9, one, generator=rng).float()
    flat = _quantised(t, steps, side)
    shade = 0.8 + 0.25 * ((t - flat) * steps + 0.5)
    return (cosine_colours(flat * uniform(one, 0.3, 0.7, rng), rng) * shade).clamp(0, 1)


def stripes(n: int, side: int, rng: Generator) -> Tensor:
    """Straight stripes of two or three colours, of even or changing width."""
    one = (n, 1, 1, 1)
    v, _ = _turned(n, side, rng)
    count = uniform(one, 3, 11, rng)
    wave = torch.sin(v * count * 3.1416 + uniform(one, 0, 6.28, rng))
    edge = side / 4 / count
    ground, stripe = two(PAIRS, n, rng)
    picture = paint(ground.expand(n, 3, side, side), torch.sigmoid((wave - uniform(one, -0.5, 0.5, rng)) * edge), stripe)
    thin = torch.sigmoid((torch.sin(v * count * 6.2832) - 0.8) * edge) * (torch.rand(one, generator=rng) < 0.5)
    picture = paint(picture, thin, choose(PAIRS, n, rng))
    cloth = fractal(n, side, rng, (16, 16), 3, 0.8)
    return (picture * (1 + 0.08 * cloth)).clamp(0, 1)


def circles(n: int, side: int, rng: Generator) -> Tensor:
    """Discs and rings of many sizes, flat or shining like bubbles."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    picture = choose(PAIRS, n, rng).expand(n, 3, side, side)
    shining = torch.rand(one, generator=rng) < 0.4
    for k in range(16):
        radius = uniform(one, 0.05, 0.42 - 0.018 * k, rng)
        cy, cx = uniform(one, -1, 1, rng), uniform(one, -1, 1, rng)
        r = torch.sqrt((y - cy) ** 2 + (x - cx) ** 2 + 1e-6) / radius
        rings = torch.sign(torch.sin(r * uniform(one, 3, 16, rng))) * 0.5 + 0.5
        colour, second = choose(PAIRS, n, rng), choose(PAIRS, n, rng)
        ringed = (torch.rand(one, generator=rng) < 0.35).float()
        ball = 0.7 + 0.45 * (1 - ((y - cy + 0.3 * radius) ** 2 + (x - cx + 0.3 * radius) ** 2) / (radius * radius)).clamp(0, 1)
        fill = paint(colour, rings * ringed, second) * torch.where(shining, ball, torch.ones_like(ball))
        picture = paint(picture, torch.sigmoid((1 - r) * radius * side), fill)
    return picture.clamp(0, 1)


def marble(n: int, side: int, rng: Generator) -> Tensor:
    """Veined stone: noise folded by noise."""
    one = (n, 1, 1, 1)
    v, u = _turned(n, side, rng)
    fold = fractal(n, side, rng, (2, 2), 6, 0.55)
    deep = seen(fractal(n, side, rng, (3, 3), 6, 0.55), (v + 0.5 * fold).clamp(-1, 1), (u + 0.4 * fold).clamp(-1, 1))
    base, vein = two(PAIRS, n, rng)
    t = torch.sin(u * uniform(one, 2, 5, rng) + 4.5 * deep)
    picture = paint(base, (0.5 + 0.5 * t) * 0.55, vein)
    thin = torch.exp(-((t / 0.12) ** 2))
    gold = torch.rand(one, generator=rng) < 0.3
    line = torch.where(gold, rgb(0.9, 0.7, 0.3), (0.4 * vein + 0.6 * (1 - base)).clamp(0, 1))
    return paint(picture, 0.75 * thin, line).clamp(0, 1)


def spiral(n: int, side: int, rng: Generator) -> Tensor:
    """Arms that wind into a centre."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    dy, dx = y - uniform(one, -0.3, 0.3, rng), x - uniform(one, -0.3, 0.3, rng)
    r, angle = torch.sqrt(dy * dy + dx * dx + 1e-4), torch.atan2(dy, dx)
    arms = torch.randint(2, 7, one, generator=rng).float()
    spin = torch.where(torch.rand(one, generator=rng) < 0.5, -1.0, 1.0) * uniform(one, 3, 8, rng)
    wave = torch.cos(arms * angle + spin * torch.where(torch.rand(one, generator=rng) < 0.5, torch.log(r), 1.6 * r))
    picture = cosine_colours(0.12 * wave + 0.3 * r, rng)
    sharp = torch.sigmoid(wave * side * 0.12 * r.clamp(0.05, 1))
    picture = paint(picture, 0.85 * sharp, choose(PAIRS, n, rng))
    return (picture * (0.55 + 0.45 * (r * 2.5).clamp(0, 1))).clamp(0, 1)


def checks(n: int, side: int, rng: Generator) -> Tensor:
    """Squares in two colours, turned, sometimes as a floor in perspective."""
    one = (n, 1, 1, 1)
    y, x = plane(side)
    v, u = _turned(n, side, rng)
    floor = torch.rand(one, generator=rng) < 0.4
    depth = 0.7 / (y + 1.15)
    v, u = torch.where(floor, depth * 2.2, v), torch.where(floor, x * depth * 1.6, u)
    count = uniform(one, 2.5, 6, rng)
    soft = side / 5 / count / torch.where(floor, 1 + depth, torch.ones_like(depth))
    wave_v, wave_u = torch.sin(v * count * 3.1416), torch.sin(u * count * 3.1416)
    board = torch.sigmoid(wave_v * soft) * torch.sigmoid(wave_u * soft)
    board = board + torch.sigmoid(-wave_v * soft) * torch.sigmoid(-wave_u * soft)
    dark, light = two(PAIRS, n, rng)
    picture = paint(dark, board, light)
    return (picture * (0.92 + 0.12 * fractal(n, side, rng, (2, 2), 5))).clamp(0, 1)
