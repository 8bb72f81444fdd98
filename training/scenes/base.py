"""What the scenes share: random numbers, noise, colours, coordinates, shapes, skies, ground in perspective."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


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


def fractal(
    n: int, side: int, rng: Generator, cells: tuple[int, int] = (2, 2), octaves: int = 5, falloff: float = 0.55
) -> Tensor:
    """Value noise (N, 1, S, S) in about [-1, 1] whose coarsest octave has cells[0] x cells[1] cells (down, across).

    Octaves are added from coarse to fine at growing size, so only the last is computed at full size: 3 ms at 256 x 256.
    """
    total, amplitude, norm = torch.zeros(n, 1, 1, 1), 1.0, 0.0
    for octave in range(octaves):
        rows, columns = (min(side, 2 * c << octave) for c in cells)
        grid = uniform((n, 1, rows, columns), -1, 1, rng) * amplitude
        total = F.interpolate(total, size=(rows, columns), mode="bilinear", align_corners=False) + grid
        norm += amplitude * amplitude
        amplitude *= falloff
    smooth = F.interpolate(total, size=(side, side), mode="bicubic", align_corners=False)
    return smooth / norm**0.5 * 1.1


def ridge(n: int, side: int, rng: Generator, cells: int, octaves: int = 5, falloff: float = 0.5, mode: str = "linear") -> Tensor:
    """Noise along x only, (N, 1, 1, S) in about [-1, 1]; `mode` linear is jagged, bicubic is round."""
    total, amplitude, norm = torch.zeros(n, 1, 1, side), 1.0, 0.0
    for octave in range(octaves):
        knots = uniform((n, 1, 1, (cells << octave) + 2), -1, 1, rng)
        method = "bilinear" if mode == "linear" else "bicubic"
        total = total + amplitude * F.interpolate(knots, size=(1, side), mode=method, align_corners=True)
        norm += amplitude * amplitude
        amplitude *= falloff
    return total / norm**0.5


def paint(picture: Tensor, mask: Tensor | float, colour: Tensor) -> Tensor:
    """`colour` over `picture` where `mask` is 1."""
    return picture + mask * (colour - picture)


def cover(distance: Tensor, side: int, soft: float = 1.0) -> Tensor:
    """Mask of a shape from its signed distance in plane units (positive inside), with an edge of about `soft` pixels."""
    return torch.sigmoid(distance * (side / 2 / 0.5 / soft))


def choose(table: tuple[tuple[float, float, float], ...], n: int, rng: Generator, spread: float = 0.06) -> Tensor:
    """One of the colours per picture, varied by `spread`, (N, 3, 1, 1)."""
    picks = torch.randint(0, len(table), (n,), generator=rng)
    return (torch.tensor(table)[picks][..., None, None] + uniform((n, 3, 1, 1), -spread, spread, rng)).clamp(0, 1)


def two(table: tuple[tuple[float, float, float], ...], n: int, rng: Generator) -> tuple[Tensor, Tensor]:
    """Two different ones of the colours per picture, varied as by `choose`, (N, 3, 1, 1) each."""
    first = torch.randint(0, len(table), (n,), generator=rng)
    second = (first + torch.randint(1, len(table), (n,), generator=rng)) % len(table)
    colours = torch.tensor(table)[torch.stack([first, second])][..., None, None]
    varied = (colours + uniform((2, n, 3, 1, 1), -0.06, 0.06, rng)).clamp(0, 1)
    return varied[0], varied[1]


def seen(texture: Tensor, v: Tensor, u: Tensor) -> Tensor:
    """A texture (N, C, T, T) at plane coordinates v, u, reflected at its borders: (N, C, S, S)."""
    n = texture.shape[0]
    grid = torch.stack(torch.broadcast_tensors(u, v), -1)[:, 0].expand(n, -1, -1, -1)
    return F.grid_sample(texture, grid, padding_mode="reflection", align_corners=False)


def shifted(x: Tensor, down: int, right: int) -> Tensor:
    """x moved by whole pixels (0 or more), borders replicated."""
    height, width = x.shape[-2:]
    return F.pad(x, (right, 0, down, 0), mode="replicate")[..., :height, :width]


def ground_plane(y: Tensor, x: Tensor, horizon: Tensor, height: float = 0.5) -> tuple[Tensor, Tensor]:
    """Coordinates on flat ground seen in perspective: depth (growing to the horizon) and sideways, (N, 1, S, S)."""
    depth = height / (y - horizon).clamp_min(0.02)
    return depth, x * depth


# Zenith, horizon, colour of the light on the ground, brightness of stars.
Time = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float], float]
DAY: Time = ((0.16, 0.42, 0.84), (0.76, 0.89, 0.98), (1.0, 1.0, 0.96), 0.0)
MORNING: Time = ((0.4, 0.56, 0.86), (1.0, 0.82, 0.68), (1.0, 0.9, 0.8), 0.0)
OVERCAST: Time = ((0.5, 0.57, 0.65), (0.82, 0.84, 0.86), (0.8, 0.83, 0.86), 0.0)
DUSK: Time = ((0.2, 0.15, 0.42), (1.0, 0.52, 0.3), (0.72, 0.5, 0.52), 0.2)
NIGHT: Time = ((0.01, 0.02, 0.09), (0.08, 0.14, 0.3), (0.2, 0.27, 0.45), 0.9)
TIMES = (DAY, DAY, MORNING, OVERCAST, DUSK, NIGHT)


def sky(n: int, side: int, rng: Generator, times: tuple[Time, ...] = TIMES, cloudy: float = 0.6) -> tuple[Tensor, Tensor]:
    """A sky with clouds and stars, (N, 3, S, S), and the colour of the light below it, (N, 3, 1, 1)."""
    one = (n, 1, 1, 1)
    y, _ = plane(side)
    picks = torch.randint(0, len(times), (n,), generator=rng).tolist()
    zenith, low, light = (torch.tensor([times[k][part] for k in picks])[..., None, None] for part in range(3))
    vary = uniform((n, 3, 1, 1), 0.88, 1.12, rng)
    picture = zenith * vary + (low - zenith * vary) * ((y + 1.05) * uniform(one, 0.55, 0.95, rng)).clamp(0, 1) ** 1.2
    starry = torch.tensor([times[k][3] for k in picks]).view(one)
    picture = picture + starry * stars(n, side, rng) * (1 - (y + 1) * 0.6).clamp(0, 1)
    form = fractal(n, side, rng, (3, 2)) + uniform(one, -0.9, 0.5 * cloudy, rng)
    veil = torch.sigmoid(form * 5) * uniform(one, 0.3, 0.95, rng) * (0.4 + 0.6 * cloudy)
    shade = 0.72 + 0.28 * torch.sigmoid(form * 4 - 1.5)
    return paint(picture, veil, (low * 0.55 + 0.45 * light) * shade).clamp(0, 1), light


def stars(n: int, side: int, rng: Generator, share: float = 0.0022) -> Tensor:
    """Points of light of different brightness, (N, 1, S, S)."""
    scale = max(1, side // 256)
    cells = side // scale
    bright = torch.rand(n, 1, cells, cells, generator=rng)
    points = ((bright - (1 - share)) / share).clamp(0, 1)
    soft = F.avg_pool2d(points, 3, stride=1, padding=1) * 2.5 + points
    return F.interpolate(soft, size=(side, side), mode="bilinear", align_corners=False).clamp(0, 1)


def picked(table: Tensor, index: Tensor) -> Tensor:
    """Row-wise lookup: table (N, K) at whole-numbered index (N or 1, 1, H, W), clamped: (N, 1, H, W)."""
    n, count = table.shape
    flat = index.long().clamp(0, count - 1).expand(n, -1, -1, -1)
    return table.gather(1, flat.reshape(n, -1)).view(flat.shape)


def cosine_colours(t: Tensor, rng: Generator, depth: float = 0.42) -> Tensor:
    """Colours that run through a circle as t grows by 1, by cosines with random phases, (N, 3, H, W)."""
    n = t.shape[0]
    phase = torch.rand(n, 1, 1, 1, generator=rng) + uniform((n, 1, 1, 1), 0.08, 0.22, rng) * torch.arange(3.0).view(1, 3, 1, 1)
    centre = uniform((n, 3, 1, 1), 0.42, 0.62, rng)
    return (centre + depth * torch.cos(6.2832 * (t + phase))).clamp(0, 1)
