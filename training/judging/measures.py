"""Figures of pictures and of clips, beside those of the teacher: edges kept, steadiness along the flow, differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Map = NDArray[np.float32]
"""How likely each pixel is an edge, [H, W]."""


def difference(a: Picture, b: Picture) -> float:
    """Mean absolute difference in grey levels of 255."""
    return float(np.abs(a.astype(np.float32) - b).mean())


def edges_kept(photograph: Map, teacher: Map, output: Map) -> float:
    """Correlation of the output's edges with the photograph's, as a share of that of the teacher's picture."""
    return _correlation(photograph, output) / max(_correlation(photograph, teacher), 1e-3)


def _correlation(a: Map, b: Map) -> float:
    if a.std() < 1e-6 or b.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


class Flow:
    """Where the pixels of each frame of a clip were in the frame before, for those that can be followed there and back."""

    def __init__(self, frames: Sequence[Picture]) -> None:
        """frames: [H, W, 3], RGB."""
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
        self._steps = [self._followed(before, after) for before, after in pairwise(grey)]

    @staticmethod
    def _followed(before: Picture, after: Picture) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(places [H, W, 2] in the frame before, whether they hold)"""
        method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        back = method.calc(after, before, np.zeros((*before.shape, 2), np.float32))
        forth = method.calc(before, after, np.zeros((*before.shape, 2), np.float32))
        y, x = np.mgrid[: before.shape[0], : before.shape[1]].astype(np.float32)
        places = np.stack([x, y], -1) + back
        returned = cv2.remap(forth, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inside = (places >= 0).all(-1) & (places <= (before.shape[1] - 1, before.shape[0] - 1)).all(-1)
        return places, inside & (np.linalg.norm(back + returned, axis=-1) < 1)

    def error(self, pictures: Sequence[Picture]) -> float:
        """Mean absolute difference of each picture from the one before moved along the flow, of 255."""
        errors = []
        for (before, after), (places, holds) in zip(pairwise(pictures), self._steps, strict=True):
            moved = cv2.remap(before, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            if holds.any():
                errors.append(np.abs(moved.astype(np.float32) - after)[holds].mean())
        return float(np.mean(errors)) if errors else float("nan")

    def apart(self, pictures: Sequence[Picture], others: Sequence[Picture], followed: bool) -> float:
        """Mean difference of two makings of the clip, from its second frame on: on ground that can be followed to the frame
        before, or on all other ground. NaN without such ground."""
        apart = []
        for one, other, (_, holds) in zip(pictures[1:], others[1:], self._steps, strict=True):
            if (holds == followed).any():
                apart.append(np.abs(one.astype(np.float32) - other)[holds == followed].mean())
        return float(np.mean(apart)) if apart else float("nan")


def noisy(photograph: Picture, count: int, level: float = 2.0, seed: int = 0) -> list[Picture]:
    """Frames of a still scene with a sensor's noise of a standard deviation of `level` of 255."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, level, (count, *photograph.shape))
    return [np.rint(photograph + one).clip(0, 255).astype(np.uint8) for one in noise]


def change(pictures: Sequence[Picture]) -> float:
    """Mean difference of neighbours."""
    return float(np.mean([difference(a, b) for a, b in pairwise(pictures)]))


def spread(pictures: Sequence[Picture]) -> float:
    """Mean difference over all pairs."""
    return float(np.mean([difference(a, b) for a, b in combinations(pictures, 2)]))


def closest(pictures: Mapping[str, Sequence[Picture]], below: float) -> list[tuple[float, str, str]]:
    """Pairs of looks with the difference of their pictures, a mean over photographs: those below a bound, nearest first; at
    least the nearest."""
    gaps = sorted(
        (float(np.mean([difference(x, y) for x, y in zip(pictures[a], pictures[b], strict=True)])), a, b)
        for a, b in combinations(pictures, 2)
    )
    return gaps[: max(1, sum(gap < below for gap, _, _ in gaps))]
