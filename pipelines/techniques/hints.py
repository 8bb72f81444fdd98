"""Maps that a ControlNet follows, made from the incoming frame by OpenCV alone: a picture in, a map out. Pure.

Each is of the kind that published ControlNets were trained on: lines of Canny's detector, soft edges as HED draws them, depth as
MiDaS does. The last two are stand-ins without a network: good for a stream's structure, not a measurement of the scene.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.values.settings import MAPS
from pipelines.values.types import Pixels

Grey = NDArray[np.uint8]
"""[H, W]."""

LOW, HIGH = 100, 200  # Canny's thresholds in the published examples
STRONG = 99.0  # percentile of the gradient that counts as a full edge
ABOVE = 0.5  # share of "what stands lower in the picture is nearer" in the depth-like map


def hint(pixels: Pixels, kind: str) -> NDArray[np.float32]:
    """The map of a picture uint8 [H, W, 3]: float32 [3, H, W] in 0..1. kind: one of settings.MAPS, else KeyError."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    drawn = DRAWN[kind](np.asarray(grey, np.uint8))
    return np.stack([drawn] * 3)


def hints(pixels: Pixels, kinds: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Maps of these kinds one after the other, float32 [3n, H, W], and their kinds, float32 [n · number of MAPS], 1 for a map's
    own kind."""
    drawn = {kind: hint(pixels, kind) for kind in set(kinds)}
    chosen = np.asarray([[float(kind == name) for name in MAPS] for kind in kinds], np.float32)
    return np.concatenate([drawn[kind] for kind in kinds]), chosen.reshape(-1)


def canny(grey: Grey) -> NDArray[np.float32]:
    """White lines, one pixel wide, on black: [H, W], 0 or 1."""
    return np.asarray(cv2.Canny(grey, LOW, HIGH) / 255, np.float32)


def soft_edge(grey: Grey) -> NDArray[np.float32]:
    """Gradients at two sizes, the stronger one at each pixel: [H, W] in 0..1, 1 for the strongest hundredth. Black for a plain
    picture."""
    edges = np.zeros(grey.shape, np.float32)
    for sigma in (1.0, 3.0):
        smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), sigma)
        edges = np.maximum(edges, sigma * np.hypot(cv2.Sobel(smooth, -1, 1, 0), cv2.Sobel(smooth, -1, 0, 1)))
    strongest = float(np.percentile(edges, STRONG))
    return np.asarray(np.clip(edges / max(strongest, 1.0), 0, 1), np.float32)


def depth_like(grey: Grey) -> NDArray[np.float32]:
    """Near is white: [H, W] in 0..1. What is bright and large, and what stands low in the picture, counts as near."""
    height, width = grey.shape
    flat = cv2.bilateralFilter(grey, 9, 60, max(height, width) / 64)
    spread = cv2.createCLAHE(2.0, (4, 4)).apply(flat).astype(np.float32) / 255
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    return np.asarray(ABOVE * ramp + (1 - ABOVE) * cv2.GaussianBlur(spread, (0, 0), 2.0), np.float32)


DRAWN: dict[str, Callable[[Grey], NDArray[np.float32]]] = dict(zip(MAPS, (canny, soft_edge, depth_like), strict=True))
