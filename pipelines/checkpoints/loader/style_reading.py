"""A picture prompt to a style of the painter: what `pipelines/networks/style_reader.py` says of its middle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines import media
from pipelines.values.picture_style import PictureStyle
from pipelines.values.types import ModelError, Pixels

if TYPE_CHECKING:
    from pipelines.networks.style_reader import Ends

SIDE = 224
"""Pixels of a picture's side when it is read: half of the 448 at which its strokes have the size of the painter's."""

CONTENT_SIDE = 384
CONTENTS = 3  # photographs

StyleReading = Callable[[Pixels], PictureStyle]
"""A picture, uint8 [height, width, 3] of any size, to a style of the painter. May be called from any thread."""


def reading(network: Any, painter: str, ends: Ends | None = None) -> StyleReading:
    """network: a StyleReader in float32. painter: the fingerprint that it is for. ends: see `StyleReader`."""

    @torch.inference_mode()
    def read(picture: Pixels) -> PictureStyle:
        return PictureStyle(network(middle(picture, SIDE), ends).numpy(), painter, source=picture)

    return read


def ends_of(painter: nn.Module, photographs: Sequence[Path]) -> Ends | None:
    """Measured on photographs, at the size at which strokes have their own; None for a painter that normalises its last
    channels. Raises ModelError where there are no photographs."""
    from pipelines.networks.trunk import TrunkPainter

    if not isinstance(painter, TrunkPainter):
        return None
    if not photographs:
        raise ModelError("painter: has no photographs in the folder calibration to measure its colours on")
    trunk = painter.float()
    contents = [middle(media.read_picture(path, CONTENT_SIDE, CONTENT_SIDE), CONTENT_SIDE) for path in photographs[:CONTENTS]]
    return lambda numbers: trunk.ends(contents, numbers)


def middle(picture: Pixels, side: int) -> Tensor:
    """The centred square of uint8 [height, width, 3] as [1, 3, side, side] in [-1, 1]."""
    height, width = picture.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = np.ascontiguousarray(picture[top : top + short, left : left + short])
    x = torch.from_numpy(square).permute(2, 0, 1)[None].float() / 127.5 - 1
    if short == side:
        return x
    return F.interpolate(x, (side, side), mode="bicubic", antialias=True).clamp(-1, 1)
