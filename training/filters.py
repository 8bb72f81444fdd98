"""Small image operations that the looks are built from, on batches (N, C, H, W) in [0, 1], on any device.

All are smooth almost everywhere in their input and shift-invariant, so that a convolutional network can learn them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def luminance(x: Tensor) -> Tensor:
    """Luma of (N, 3, H, W) as (N, 1, H, W), ITU-R BT.601 weights."""
    weights = x.new_tensor(LUMA).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True)


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of standard deviation `sigma` pixels, truncated at 2.5 sigma, edges replicated."""
    radius = max(1, round(2.5 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    channels = x.shape[1]
    horizontal = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    vertical = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    x = F.conv2d(F.pad(x, (radius, radius, 0, 0), mode="replicate"), horizontal, groups=channels)
    return F.conv2d(F.pad(x, (0, 0, radius, radius), mode="replicate"), vertical, groups=channels)


def box(x: Tensor, size: int) -> Tensor:
    """Mean over size x size pixels (odd size), edges replicated."""
    half = size // 2
    return F.avg_pool2d(F.pad(x, (half, half, half, half), mode="replicate"), size, stride=1)


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical Sobel derivatives per pixel step, each of the shape of x."""
    channels = x.shape[1]
    sobel = x.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8.0
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    gx = F.conv2d(padded, sobel.expand(channels, 1, 3, 3), groups=channels)
    gy = F.conv2d(padded, sobel.t().expand(channels, 1, 3, 3), groups=channels)
    return gx, gy


def edges(x: Tensor, sigma: float = 1.2) -> Tensor:
    """Gradient magnitude of the blurred picture, strongest channel, (N, 1, H, W)."""
    gx, gy = gradients(blur(x, sigma))
    return torch.sqrt(gx * gx + gy * gy + 1e-8).amax(1, keepdim=True)


def soft_step(x: Tensor, threshold: float, width: float) -> Tensor:
    """Logistic step from 0 to 1 at `threshold`; 10% to 90% over about 4.4 `width`."""
    return torch.sigmoid((x - threshold) / width)


def lines(x: Tensor, sigma: float = 1.2, gain: float = 14.0) -> Tensor:
    """Dark-side ink lines in [0, 1] by a difference of Gaussians (Winnemoeller 2011), (N, 1, H, W)."""
    luma = luminance(x)
    difference = blur(luma, sigma * 1.8) - blur(luma, sigma)
    return torch.tanh(gain * F.relu(difference - 0.008))


def kuwahara(x: Tensor, radius: int) -> Tensor:
    """Kuwahara filter with soft choice: each pixel takes the means of its four quadrants, weighted by variance^-4.

    The soft weights keep the result continuous in the input; the classical arg-min jumps.
    """
    size = radius + 1
    mean = F.avg_pool2d(F.pad(x, (radius,) * 4, mode="replicate"), size, stride=1)
    square = F.avg_pool2d(F.pad(x * x, (radius,) * 4, mode="replicate"), size, stride=1)
    variance = (square - mean * mean).sum(1, keepdim=True).clamp_min(0)  # (N, 1, H + r, W + r)
    weight = (100 * variance + 0.005).pow(-4)  # 0.005: a standard deviation of 2/255 is noise, not structure
    height, width = x.shape[-2:]
    total, norm = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    for dy in (0, radius):
        for dx in (0, radius):
            quadrant = (..., slice(dy, dy + height), slice(dx, dx + width))
            total = total + mean[quadrant] * weight[quadrant]
            norm = norm + weight[quadrant]
    return total / norm


def saturate(x: Tensor, amount: float) -> Tensor:
    """Moves colours away from (amount > 1) or towards (amount < 1) their luma; clamped to [0, 1]."""
    luma = luminance(x)
    return (luma + amount * (x - luma)).clamp(0, 1)


def contrast(x: Tensor, gain: float, pivot: float = 0.5) -> Tensor:
    """Smooth sigmoid contrast about `pivot`, fixed at 0 and 1."""
    low, high = torch.sigmoid(x.new_tensor(-gain * pivot)), torch.sigmoid(x.new_tensor(gain * (1 - pivot)))
    return (torch.sigmoid(gain * (x - pivot)) - low) / (high - low)


def posterise(x: Tensor, levels: int, softness: float = 0.12) -> Tensor:
    """Rounds to `levels` values with smooth transitions (fraction `softness` of a step)."""
    scaled = x.clamp(0, 1) * (levels - 1)
    base = torch.floor(scaled)
    return (base + soft_step(scaled - base, 0.5, softness / 2)) / (levels - 1)


def gradient_map(luma: Tensor, stops: tuple[tuple[float, float, float], ...]) -> Tensor:
    """Colours (N, 1, H, W) in [0, 1] by linear interpolation between evenly spaced RGB stops: (N, 3, H, W)."""
    table = luma.new_tensor(stops)  # (K, 3)
    position = luma.clamp(0, 1) * (len(stops) - 1)
    index = position.floor().clamp(max=len(stops) - 2).long()
    fraction = position - index
    low, high = table[index[:, 0]], table[index[:, 0] + 1]  # (N, H, W, 3)
    return (low + (high - low) * fraction[:, 0, ..., None]).permute(0, 3, 1, 2)


def blocks(x: Tensor, size: int = 8) -> Tensor:
    """Means over size x size blocks, repeated to full size; H and W are multiples of `size`."""
    return F.interpolate(F.avg_pool2d(x, size), scale_factor=size, mode="nearest")


def tile(pattern: Tensor, x: Tensor) -> Tensor:
    """Repeats a (P, P) pattern over the plane of x: (1, 1, H, W), aligned to the top-left corner."""
    height, width = x.shape[-2:]
    period = pattern.shape[-1]
    repeated = pattern.to(x).repeat(-(-height // period), -(-width // period))
    return repeated[:height, :width].view(1, 1, height, width)
