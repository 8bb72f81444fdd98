"""What a session keeps between partial frames, and how a window gets into its picture. Tensors; the decisions are in
techniques/partial.py."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.techniques.partial import FEATHER, MARGIN, Kept, Plan, Window
from pipelines.values.types import Pixels


@dataclass(slots=True)
class PartialMemory:
    """kept: of the last frame that was finished, None where it had no plan. pixels, before, key, plan: the last plan that was
    made, and for what, since the forecast asks for it before the step does."""

    kept: Kept | None = None
    pixels: Pixels | None = None
    before: Kept | None = None
    key: Hashable = None
    plan: Plan | None = None


@dataclass(slots=True)
class PartialPicture:
    """The picture of a frame with a plan. pixels, uint8 [H, W, 3], and style, the painter's folded numbers [N], are set by the
    decoder."""

    plan: Plan
    pixels: Tensor | None = None
    style: Tensor | None = None


def composed(kept: Tensor, made: Tensor, window: Window) -> Tensor:
    """The kept picture, uint8 [H, W, 3], with a window, uint8 [h, w, 3], in its place: kept + α·(made − kept)."""
    height, width = kept.shape[:2]
    picture, mixed = kept.clone(), made.clone()
    below = kept[window.rows, window.columns]
    ramp = (torch.arange(FEATHER, device=kept.device) + 0.5) / FEATHER
    for axis, begin, length, whole in ((0, window.top, window.height, height), (1, window.left, window.width, width)):
        shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
        if begin:
            _fade(mixed, below, axis, MARGIN - FEATHER, ramp.reshape(shape))
        if begin + length < whole:
            _fade(mixed, below, axis, length - MARGIN, ramp.flip(0).reshape(shape))
    rows, columns = window.inner(height, width, MARGIN - FEATHER)
    picture[rows, columns] = mixed[
        rows.start - window.top : rows.stop - window.top, columns.start - window.left : columns.stop - window.left
    ]
    return picture


def _fade(mixed: Tensor, below: Tensor, axis: int, start: int, weight: Tensor) -> None:
    """Blend a strip of `mixed` with what is below it, in place."""
    strip, under = mixed.narrow(axis, start, FEATHER), below.narrow(axis, start, FEATHER)
    strip.copy_(torch.lerp(under.float(), strip.float(), weight).round_())
