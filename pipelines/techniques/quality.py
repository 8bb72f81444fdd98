"""How close the accelerated picture is to the reference: SSIM, PSNR, flicker. Pure functions of pictures; numpy and cv2.

SSIM is of the luma (BT.601, as JPEG has it): one number as the eye weighs it, at a third of the price of three channels.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.values.types import Pixels, Quality

WINDOW = 11
SIGMA = 1.5
FULL_SCALE = 255.0
C1 = (0.01 * FULL_SCALE) ** 2
C2 = (0.03 * FULL_SCALE) ** 2

STILL = 4
"""A pixel whose input channels all changed by at most this much (of 255) stood still: two σ of a camera's sensor noise."""

Plane = NDArray[np.float32]


def luma(picture: Pixels) -> Plane:
    """0.299 R + 0.587 G + 0.114 B of uint8 [height, width, 3]: float32 [height, width], 0..255, not rounded."""
    return cv2.transform(picture.astype(np.float32), np.array([[0.299, 0.587, 0.114]], np.float32)).reshape(picture.shape[:2])


def ssim(a: Pixels, b: Pixels) -> float:
    """Structural similarity of two pictures of one shape (uint8, at least 11x11), -1..1; 1 is identical.

    Wang et al. 2004: Gaussian window 11, σ = 1.5, K₁ = 0.01, K₂ = 0.03, on luma, averaged where the window fits whole.
    Raises ValueError for pictures that cannot be compared.
    """
    _check(a, b)
    if min(a.shape[:2]) < WINDOW:
        raise ValueError(f"SSIM needs at least {WINDOW}x{WINDOW} pixels, not {a.shape[1]}x{a.shape[0]}")
    x, y = luma(a), luma(b)
    μx, μy = _blur(x), _blur(y)
    σxx = _blur(x * x) - μx * μx
    σyy = _blur(y * y) - μy * μy
    σxy = _blur(x * y) - μx * μy
    s = (2 * μx * μy + C1) * (2 * σxy + C2) / ((μx * μx + μy * μy + C1) * (σxx + σyy + C2))
    return float(s.mean(dtype=np.float64))


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio in dB, 10·log₁₀(255² / mean squared difference) over all channels; inf if identical.

    Raises ValueError for pictures that cannot be compared.
    """
    _check(a, b)
    squares = cv2.norm(a, b, cv2.NORM_L2SQR)
    return 10 * math.log10(FULL_SCALE**2 * a.size / squares) if squares else math.inf


def flicker(output: Pixels, before: Pixels, source: Pixels, source_before: Pixels, still: int = STILL) -> float | None:
    """Mean |output_t − output_{t−1}| (0..255, over channels) of the pixels whose input did not change by more than `still`.

    None if the input stood still nowhere. All four are uint8 [height, width, 3] of one shape; raises ValueError otherwise.
    """
    for other in (before, source, source_before):
        _check(output, other)
    stood = cv2.inRange(cv2.absdiff(source, source_before), (0, 0, 0), (still, still, still))  # [height, width], 255 where true
    if not cv2.countNonZero(stood):
        return None
    return float(sum(cv2.mean(cv2.absdiff(output, before), mask=stood)[:3]) / 3)


def compare(picture: Pixels, reference: Pixels, flickering: float | None = None) -> Quality:
    """SSIM and PSNR of the accelerated `picture` against the `reference` of the same frame, as an Output carries them."""
    return Quality(ssim(picture, reference), psnr(picture, reference), flickering)


def _blur(x: Plane) -> Plane:
    """Gaussian mean under the window, only where it fits whole: [height − 10, width − 10]."""
    r = WINDOW // 2
    return cv2.GaussianBlur(x, (WINDOW, WINDOW), SIGMA, borderType=cv2.BORDER_REFLECT)[r:-r, r:-r]


def _check(a: Pixels, b: Pixels) -> None:
    for picture in (a, b):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"pictures must be uint8 [height, width, 3], not {picture.dtype} {list(picture.shape)}")
    if a.shape != b.shape:
        raise ValueError(f"pictures must have one shape, not {list(a.shape)} and {list(b.shape)}")
