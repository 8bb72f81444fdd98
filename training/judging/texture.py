"""How near the texture of one picture is to that of another: Portilla and Simoncelli's statistics (2000), by plenoptic.

They are moments and correlations of a steerable pyramid; none of them is learnt, and no training here uses them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Statistics = dict[str, NDArray[np.float32]]
"""Of each kind all numbers; nan for those that only repeat others."""

SIDE = 256
LEAST = 0.1  # of a standard deviation: a teacher's picture that is nearer to the photograph has no style to be measured by
SMALLEST = 1e-3  # a statistic that never changes by more carries no information


class Texture:
    """Statistics of L, a and b in windows of SIDE pixels, in the middle and towards the upper left."""

    def __init__(self) -> None:
        try:
            models: Any = importlib.import_module("plenoptic.models")
        except ImportError as error:
            raise ImportError(f"{error}; pip install -r requirements-judging.txt") from error
        self.model = models.PortillaSimoncelli((SIDE, SIDE), n_scales=4, n_orientations=4, spatial_corr_width=9)

    @torch.no_grad()
    def statistics(self, picture: Picture) -> Statistics:
        """picture: [H, W, 3], RGB, sides of at least SIDE."""
        height, width = picture.shape[:2]
        if min(height, width) < SIDE:
            raise ValueError(f"texture: sides of at least {SIDE} pixels, got {picture.shape}")
        lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
        corners = {((height - SIDE) // 2, (width - SIDE) // 2), ((height - SIDE) // 8, (width - SIDE) // 8)}
        windows = np.stack([lab[y : y + SIDE, x : x + SIDE] for y, x in sorted(corners)])
        found = self.model(torch.from_numpy(windows).permute(0, 3, 1, 2).float() / 255)
        kinds = self.model.convert_to_dict(found)
        return {kind: values.numpy().astype(np.float32).ravel() for kind, values in kinds.items()}


def scales(pictures: Iterable[Statistics]) -> Statistics:
    """The standard deviation of each number over pictures: what a difference is counted in."""
    rows = list(pictures)
    with np.errstate(invalid="ignore"):
        return {kind: np.maximum(np.stack([row[kind] for row in rows]).std(0), SMALLEST) for kind in rows[0]}


def distance(a: Statistics, b: Statistics, scale: Statistics) -> float:
    """The mean difference in standard deviations; every kind of statistic counts alike, however many numbers it has."""
    means = [np.nanmean(np.minimum(np.abs(a[kind] - b[kind]) / scale[kind], 10)) for kind in scale]
    return float(np.mean(means))


def share(
    output: Sequence[Statistics], teacher: Sequence[Statistics], photograph: Sequence[Statistics], scale: Statistics
) -> float:
    """The outputs' distance from the teacher's pictures as a share of the photographs' own, a mean over pictures; nan for a
    look whose teacher leaves every photograph nearly as it is."""
    found = []
    for o, t, p in zip(output, teacher, photograph, strict=True):
        own = distance(p, t, scale)
        if own >= LEAST:
            found.append(distance(o, t, scale) / own)
    return float(np.mean(found)) if found else float("nan")
