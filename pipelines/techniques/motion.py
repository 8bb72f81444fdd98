"""Where the pixels of an input were in an earlier one: dense optical flow (DIS, Kroeger et al., arXiv 1603.03590), and how far to
trust it. Pure; runs on the host.

The flow b at pixel p of the newer input leads to p + b(p) in the older one. The flow f of the older input leads back, so where
both are right

    e(p) = |b(p) + f(p + b(p))|  and  d(p) = mean over channels of |older(p + b(p)) − newer(p)|

are small. Ground that was covered before has no place in the older input: there e or d is large. The trust is a product of two
ramps over e and d, 0 for places outside the older input, and narrowed by one pixel. Where little of a picture is trusted, the
scene was cut, and then nothing is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.values.types import Pixels

SHRINK = 4
"""The flow is found at 1/4 of the input's width and height."""

LOST, HELD = 1.0, 0.5
"""e, in pixels of the small input, from which a pixel has no trust, and up to which it has all."""
CHANGED, ALIKE = 24.0, 12.0
"""d, of 255, likewise."""
CUT = 0.4
"""Mean trust of a picture below which the scene was cut."""

Field = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """back: float32 [h, w, 2], (x, y) to a pixel's place in the older input, in pixels of the small input. trust: float32 [h, w],
    0..1."""

    back: Field
    trust: Field

    @property
    def lost(self) -> bool:
        """Whether nothing is trusted."""
        return not self.trust.any()

    def places(self, height: int, width: int) -> Field:
        """Where each pixel of a picture of this size was, float32 [height, width, 2], (x, y) in its pixels."""
        h, w = self.trust.shape
        scaled = self.back * np.array((width / w, height / h), np.float32)
        back = cv2.resize(scaled, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.add(grid(height, width), back), np.float32)

    def trusted(self, height: int, width: int) -> Field:
        """The trust at this size, float32 [height, width]."""
        return np.asarray(cv2.resize(self.trust, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


@lru_cache(maxsize=8)
def grid(height: int, width: int) -> Field:
    """(x, y) of each pixel, float32 [height, width, 2]. Shared: do not write."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.stack([x, y], axis=-1)


def small(pixels: Pixels) -> Pixels:
    """The input [H, W, 3] at 1/4 of its size, area-averaged: uint8 [H/4, W/4, 3], at least one pixel. Raises ValueError for other
    arrays."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ValueError(f"pixels must be uint8 [height, width, 3], not {pixels.dtype} {list(pixels.shape)}")
    height, width = (max(1, side // SHRINK) for side in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def follow(older: Pixels, newer: Pixels) -> Motion:
    """The motion from one small input to a later one. Inputs of different sizes, or below 16 pixels a side, have nothing
    in common."""
    height, width = newer.shape[:2]
    if older.shape != newer.shape or min(height, width) < 16:
        return Motion(np.zeros((height, width, 2), np.float32), np.zeros((height, width), np.float32))
    before, after = cv2.cvtColor(older, cv2.COLOR_RGB2GRAY), cv2.cvtColor(newer, cv2.COLOR_RGB2GRAY)
    back = np.nan_to_num(_flow(after, before, 0))
    return Motion(back, _trust(older, newer, back, _flow(before, after, 1)))


def _flow(of: NDArray[np.uint8], to: NDArray[np.uint8], finest: int) -> Field:
    """Flow [h, w, 2] between grey pictures. finest: 0 for every pixel, 1 at half of the size for a quarter of the time."""
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    method.setFinestScale(finest)
    method.setPatchStride(6)
    method.setGradientDescentIterations(12)
    method.setVariationalRefinementIterations(0)
    return np.asarray(method.calc(of, to, np.zeros((*of.shape, 2), np.float32)), np.float32)


def _trust(older: Pixels, newer: Pixels, back: Field, forth: Field) -> Field:
    height, width = back.shape[:2]
    places = grid(height, width) + back
    returned = cv2.remap(forth, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    moved = cv2.remap(older, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    e = np.nan_to_num(np.linalg.norm(back + returned, axis=-1), nan=np.inf)
    d = cv2.absdiff(moved, newer).mean(axis=-1)
    inside = ((places >= -0.5) & (places <= np.array((width - 0.5, height - 0.5)))).all(axis=-1)
    trust = np.clip((LOST - e) / (LOST - HELD), 0, 1) * np.clip((CHANGED - d) / (CHANGED - ALIKE), 0, 1) * inside
    if trust.mean() < CUT:
        return np.zeros((height, width), np.float32)
    narrowed = cv2.erode(trust.astype(np.float32), np.ones((3, 3), np.uint8))
    return np.asarray(np.minimum(cv2.blur(narrowed, (3, 3)), trust), np.float32)


@dataclass(slots=True)
class Follower:
    """`follow`, with the last motion kept: what holds for a frame is asked for more than once. One session's."""

    _last: tuple[Pixels, Pixels, Motion] | None = field(default=None, repr=False)

    def between(self, older: Pixels, newer: Pixels) -> Motion:
        if self._last is None or self._last[0] is not older or self._last[1] is not newer:
            self._last = older, newer, follow(older, newer)
        return self._last[2]
