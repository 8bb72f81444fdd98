"""What evaluation measures on pictures (N, 3, H, W) in [0, 1]: likeness, colours, structure, flicker, diversity."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

from training import filters

Mask = NDArray[np.bool_]
TOLERANCE = 2  # pixels by which an edge may be off
SENSOR_NOISE = 2 / 255


def ssim(a: Tensor, b: Tensor) -> float:
    """Mean SSIM of luma (Wang et al. 2004), Gaussian window of sigma 1.5."""
    x, y = filters.luminance(a), filters.luminance(b)
    mx, my = filters.blur(x, 1.5), filters.blur(y, 1.5)
    vx, vy = filters.blur(x * x, 1.5) - mx * mx, filters.blur(y * y, 1.5) - my * my
    covariance = filters.blur(x * y, 1.5) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return float(((2 * mx * my + c1) * (2 * covariance + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean())


def histogram(x: Tensor, bins: int = 8) -> Tensor:
    """Share of pixels per cell of a bins^3 RGB cube, (bins^3,)."""
    index = (x.clamp(0, 1) * (bins - 1e-4)).long()
    flat = (index[:, 0] * bins + index[:, 1]) * bins + index[:, 2]
    return torch.bincount(flat.flatten(), minlength=bins**3).float() / flat.numel()


def histogram_distance(a: Tensor, b: Tensor) -> float:
    """Half the L1 distance of colour histograms: 0 for equal, 1 for disjoint."""
    return float(0.5 * (histogram(a) - histogram(b)).abs().sum())


def canny(x: Tensor) -> Mask:
    """Canny edges of one picture (1, 3, H, W), (H, W): luma blurred by 1.5 pixels, 2nd to 98th percentile stretched to 0..255.

    Thresholds 60 and 120 of OpenCV's Sobel magnitude.
    """
    luma = filters.luminance(x)[0, 0].numpy()
    smooth = cv2.GaussianBlur(luma, (0, 0), 1.5)
    low, high = np.percentile(smooth, (2, 98))
    stretched = np.clip((smooth - low) / max(float(high - low), 0.05), 0, 1)
    return np.asarray(cv2.Canny((stretched * 255).astype(np.uint8), 60, 120) > 0)


def near(edges: Mask) -> Mask:
    """Pixels at most TOLERANCE from an edge."""
    size = 2 * TOLERANCE + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(cv2.dilate(edges.astype(np.uint8), disc) > 0)


def structure(source: Tensor, target: Tensor, output: Tensor) -> float | None:
    """F1 of the edges of the source and those of the output, the look neutralised; (1, 3, H, W) each; None without edges.

    `target` is the teacher's picture. Edges of the source that the look itself drops (a thermal camera has none in a plain wall)
    are not required: recall counts source edges within 2 pixels of an edge of the target. Edges that the look itself adds (dots,
    hatching) are not errors: precision leaves out output edges near one of the target and not near one of the source.
    """
    s, t, o = canny(source), canny(target), canny(output)
    near_s, near_t, near_o = near(s), near(t), near(o)
    required = s & near_t
    counted = o & (near_s | ~near_t)
    if not required.any():
        return None
    recall = float((required & near_o).sum() / required.sum())
    precision = float((counted & near_s).sum() / max(1, counted.sum()))
    return 2 * precision * recall / max(1e-9, precision + recall)


def sharpness(x: Tensor) -> float:
    """Mean magnitude of the luma's finite differences, per pixel."""
    luma = filters.luminance(x)
    return float((luma[..., 1:, :] - luma[..., :-1, :]).abs().mean() + (luma[..., 1:] - luma[..., :-1]).abs().mean())


def noisy_pair(x: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two frames of a still scene, each with its own sensor noise of 2/255, rounded to bytes as a camera's are."""
    rng = Generator().manual_seed(seed)
    a, b = (x + SENSOR_NOISE * torch.randn(x.shape, generator=rng) for _ in range(2))
    return (a.clamp(0, 1) * 255).round() / 255, (b.clamp(0, 1) * 255).round() / 255


def difference_ratio(outputs: tuple[Tensor, Tensor], inputs: tuple[Tensor, Tensor]) -> float:
    """Mean absolute difference of two outputs over that of their inputs."""
    return float(F.l1_loss(*outputs) / F.l1_loss(*inputs).clamp_min(1e-6))


def spread(features: Tensor) -> float:
    """Mean distance between the rows (N, D) of a set of features: how different pictures of one prompt are."""
    return float(torch.pdist(features.double()).mean())
