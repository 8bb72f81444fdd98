"""Strokes: directions along the structures of a picture, smoothing and line patterns that follow them, ink lines.

A direction is a pair (cos 2a, sin 2a) of planes (N, 1, H, W), a being the angle from the x axis (right) towards y (down). The
double angle has no sign to flip, and a small constant lean decides where the picture has no direction of its own, so noise does
not turn it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from training import filters as f

Direction = tuple[Tensor, Tensor]
LEAN = 4e-5  # squared luma steps per pixel; sensor noise of 2/255 makes about 1e-6

# Wave vectors of period 8 in cycles per 8 pixels, one for every 22 to 27 degrees, and their phases.
WAVES = ((1, 0), (0, 1), (1, 1), (1, -1), (2, 1), (1, 2), (2, -1), (1, -2))
FINE = tuple((2 * kx, 2 * ky) if abs(kx) + abs(ky) < 3 else (kx, ky) for kx, ky in WAVES)


def direction(x: Tensor, sigma: float = 6.0, lean: tuple[float, float] = (0.0, -1.0)) -> Direction:
    """Direction along structures from the structure tensor (Brox et al. 2006), smoothed over `sigma` pixels.

    Its length is the coherence, 0 to 1. `lean` is the direction of flat areas: (0, -1) are strokes rising to the right.
    """
    gx, gy = f.gradients(f.blur(f.luminance(x), 1.0))
    tensor = torch.cat([gy * gy - gx * gx, -2 * gx * gy], 1)
    tensor = f.blur(F.avg_pool2d(tensor, 4), sigma / 4) + LEAN * tensor.new_tensor(lean).view(1, 2, 1, 1)
    tensor = tensor / (tensor.square().sum(1, keepdim=True).sqrt() + 0.3 * LEAN)
    tensor = F.interpolate(tensor, scale_factor=4, mode="bilinear", align_corners=False)
    return tensor[:, :1], tensor[:, 1:]


def along(x: Tensor, way: Direction, reach: float, taps: int = 4) -> Tensor:
    """Mean of x over a line of `reach` pixels to both sides in the given direction, falling off as a Gaussian."""
    height, width = x.shape[-2:]
    angle = 0.5 * torch.atan2(way[1], way[0])[:, 0]  # (N, H, W)
    step = torch.stack([angle.cos() * (2 / width), angle.sin() * (2 / height)], -1) * (reach / taps)  # (N, H, W, 2)
    v = torch.arange(height, device=x.device, dtype=x.dtype) * (2 / height) + (1 / height - 1)
    u = torch.arange(width, device=x.device, dtype=x.dtype) * (2 / width) + (1 / width - 1)
    here = torch.stack(torch.broadcast_tensors(u[None, :], v[:, None]), -1)  # (H, W, 2)
    total, norm = x.clone(), 1.0
    for tap in range(1, taps + 1):
        weight = math.exp(-1.5 * (tap / taps) ** 2)
        for sign in (-tap, tap):
            total += weight * F.grid_sample(x, here + sign * step, padding_mode="border", align_corners=False)
        norm += 2 * weight
    return total / norm


def grating(x: Tensor, way: Direction, waves: tuple[tuple[int, int], ...] = WAVES, sharp: float = 9.0) -> Tensor:
    """Parallel lines in the given direction, (N, 1, H, W), about -1 to 1, of period 8 pixels in both axes.

    A sum of waves, each weighted by how well its crests run along the direction, exp(-sharp sin^2).
    """
    height, width = x.shape[-2:]
    row = torch.arange(height, device=x.device, dtype=x.dtype).view(1, 1, height, 1)
    column = torch.arange(width, device=x.device, dtype=x.dtype).view(1, 1, 1, width)
    total, norm = torch.zeros_like(way[0]), torch.zeros_like(way[0])
    for kx, ky in waves:
        square = kx * kx + ky * ky
        across = ((kx * kx - ky * ky) * way[0] + 2 * kx * ky * way[1]) / square  # -1 where crests run along
        weight = torch.exp(-0.5 * sharp * (1 + across))
        total += weight * torch.cos((kx * column + ky * row) * (2 * math.pi / 8))
        norm += weight * weight
    return total / norm.sqrt()


def hatching(x: Tensor, kx: int, ky: int, phase: float = 0.0) -> Tensor:
    """One wave of period 8, (1, 1, H, W), -1 to 1: `kx`, `ky` cycles per 8 pixels."""
    height, width = x.shape[-2:]
    row = torch.arange(height, device=x.device, dtype=x.dtype).view(1, 1, height, 1)
    column = torch.arange(width, device=x.device, dtype=x.dtype).view(1, 1, 1, width)
    return torch.cos((kx * column + ky * row) * (2 * math.pi / 8) + phase)


def tooth(x: Tensor) -> Tensor:
    """Paper tooth, (1, 1, H, W), about -1 to 1: irregular grain of period 8."""
    waves = ((2, 1, 0.3), (-1, 3, 2.1), (3, 2, 4.0), (1, -2, 5.2), (-3, 1, 1.1), (2, -3, 3.3))
    return torch.stack([hatching(x, kx, ky, phase) for kx, ky, phase in waves]).sum(0) / 2.4


def contours(x: Tensor, way: Direction, sigma: float) -> Tensor:
    """Difference of Gaussians of the luma, smoothed along the structures, (N, 1, H, W); positive on an edge's dark side.

    After Kang et al. 2007 and Winnemoeller 2011; `sigma` in pixels sets the width of a line.
    """
    luma = f.luminance(x)
    return along(f.blur(luma, 1.7 * sigma) - f.blur(luma, sigma), way, 2.0 + 2.0 * sigma)


def inked(contour: Tensor, gain: float = 26.0, least: float = 0.006) -> Tensor:
    """Contours as lines in [0, 1]; `least` is the faintest that counts. The negative of a contour gives its bright side."""
    return torch.tanh(gain * F.relu(contour - least))


def ink_lines(x: Tensor, way: Direction, sigma: float, gain: float = 26.0, least: float = 0.006) -> Tensor:
    """Lines on the dark side of edges, (N, 1, H, W) in [0, 1]."""
    return inked(contours(x, way, sigma), gain, least)


def emboss(height: Tensor, gain: float) -> Tensor:
    """Light from the top left on a height field (N, 1, H, W): about -1 (shadow) to 1 (lit)."""
    gx, gy = f.gradients(height)
    return torch.tanh(gain * (gx + gy))
