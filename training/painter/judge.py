"""Figures of every look on held-out photographs: lattice, grain, how near it is to the teacher's picture, how unlike other looks.

None of these are trained for: the meter is a check (`meter.py`), and no network of ours judges.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from training.painter import crops, meter

Paint = Callable[[Tensor, str], Tensor]
"""Picture [3, H, W] in [-1, 1] and look to the painted picture of the same shape."""


def picture(x: Tensor) -> crops.Picture:
    """[3, H, W] in [-1, 1] to uint8 [H, W, 3]."""
    return np.asarray(((x.permute(1, 2, 0).numpy() + 1) * 127.5 + 0.5).clip(0, 255).astype(np.uint8))


def difference(a: crops.Picture, b: crops.Picture) -> float:
    """Mean absolute difference in grey levels of 255."""
    return float(np.abs(a.astype(np.float32) - b).mean())


@torch.no_grad()
def judge(
    paint: Paint, looks: list[str], photographs: list[crops.Picture], teacher: Paint | None, taught: set[str]
) -> dict[str, object]:
    """Per look the means over the photographs; `closest` are the two looks that differ least. teacher paints those in `taught`.

    near: the difference from the teacher's picture as a share of the photograph's own from it. grain: beyond the teacher's.
    """
    rows: dict[str, dict[str, list[float]]] = {look: {} for look in looks}
    gaps: dict[tuple[str, str], list[float]] = {}
    for photograph in photographs:
        x = crops.tensor([photograph])[0]
        painted = {look: picture(paint(x, look)) for look in looks}
        for look, ours in painted.items():
            theirs = picture(teacher(x, look)) if teacher is not None and look in taught else None
            for name, value in _figures(ours, theirs, photograph).items():
                rows[look].setdefault(name, []).append(value)
        for pair in combinations(looks, 2):
            gaps.setdefault(pair, []).append(difference(painted[pair[0]], painted[pair[1]]))
    means = {look: {name: round(float(np.nanmean(values)), 2) for name, values in row.items()} for look, row in rows.items()}
    closest = min(gaps, key=lambda pair: float(np.mean(gaps[pair])), default=None)
    found: dict[str, object] = {"looks": means}
    if closest is not None:
        found["closest"] = {"looks": list(closest), "difference": round(float(np.mean(gaps[closest])), 1)}
    return found


def _figures(ours: crops.Picture, theirs: crops.Picture | None, photograph: crops.Picture) -> dict[str, float]:
    found = {"lattice": meter.lattice(ours), "photograph": difference(ours, photograph)}
    grain = meter.grain(ours, photograph)
    base = (0.0, 0.0, 0.0) if theirs is None else meter.grain(theirs, photograph)
    if not np.isnan(grain[0]):
        found |= {f"grain {channel}": ours - theirs for channel, ours, theirs in zip("Lab", grain, base, strict=True)}
    if theirs is not None:
        found["teacher lattice"] = meter.lattice(theirs)
        found["near"] = difference(ours, theirs) / max(difference(photograph, theirs), 1e-6)
    return found
