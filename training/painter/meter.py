"""How much of a fixed lattice a picture carries, and how much grain where its source is flat. Checks, never losses.

lattice: the share of fine detail's energy at periods of 8, 4 and 2 pixels in x, y and both, relative to their share of the
plane. Natural photographs have 0.2, painted teachers 0.3 to 4, a screen door of 8 pixels 40 to 100.
grain: standard deviation of L, a, b (CIELAB, 8 bit) around a 6-pixel mean where the source is flat.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

PERIOD = 8
FLAT = (3.0, 1.5, 1.5)  # most spread of L, a and b in what counts as flat

Picture = NDArray[np.uint8]


def lattice(picture: Picture) -> float:
    """picture: [S, S, 3], RGB, S a multiple of 8."""
    size = picture.shape[0]
    if picture.shape[:2] != (size, size) or size % PERIOD:
        raise ValueError(f"lattice: takes a square whose side {PERIOD} divides, got {picture.shape}")
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64)
    window = np.hanning(size)[:, None] * np.hanning(size)[None]
    power = np.abs(np.fft.fft2((grey - cv2.GaussianBlur(grey, (0, 0), 4)) * window)) ** 2
    near = np.zeros(size, bool)
    for k in range(PERIOD):
        near[(k * size // PERIOD + np.arange(-2, 3)) % size] = True
    mask = near[:, None] & near[None]
    mask[:3, :3] = mask[-2:, :3] = mask[:3, -2:] = mask[-2:, -2:] = False  # the mean is no lattice
    return float(power[mask].sum() / max(power.sum(), 1e-9) / mask.mean())


def grain(picture: Picture, source: Picture) -> tuple[float, float, float]:
    """Both [H, W, 3], RGB; nan where nothing of the source is flat."""
    before, after = (cv2.cvtColor(x, cv2.COLOR_RGB2LAB).astype(np.float64) for x in (source, picture))
    flat = np.all([_spread(before[..., c]) < FLAT[c] for c in range(3)], axis=0)
    if not flat.any():
        return float("nan"), float("nan"), float("nan")
    spreads = [float(_spread(after[..., c])[flat].mean()) for c in range(3)]
    return spreads[0], spreads[1], spreads[2]


def _spread(x: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = cv2.GaussianBlur(x, (0, 0), 6)
    return np.sqrt(np.maximum(cv2.GaussianBlur(x * x, (0, 0), 6) - mean**2, 0))
