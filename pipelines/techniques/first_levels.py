"""The first levels of a frame, where another form of the network, or another network, takes the place of the usual one.

Both HiDiffusion (arXiv 2311.17528, its switch T₁) and T-Stitch (arXiv 2402.14167) count so: of n steps the first ⌊share · n⌋.
With one step this is none, unless the share is 1.
"""

from __future__ import annotations

import math


def count(share: float, steps: int) -> int:
    """How many of so many steps belong to the first share, 0..1."""
    return math.floor(share * steps + 1e-9)  # 0.3 · 10 is 3, although floats have it a little below


def inside(level: int, steps: int, share: float) -> bool:
    """Whether a level, counted from the noisiest one, belongs to the first share of so many steps."""
    return level < count(share, steps)


def waits(share: float, steps: int) -> str | None:
    """Why a share above 0 does nothing, for people; None where it acts, or is 0."""
    if count(share, steps) or not share:
        return None
    return f"it waits: this share of {steps} step{'s' if steps > 1 else ''} is less than one step"
