"""A picture of any size into the stream's size: crop, pad or stretch. Pure geometry, and Pillow for one picture."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from PIL import Image

from pipelines.media.values import ReadOptions
from pipelines.values.types import Pixels


@dataclass(frozen=True, slots=True)
class Placement:
    """width, height: to scale the whole picture to; left, top: where it then lies in the stream's, negative where it is cut."""

    width: int
    height: int
    left: int
    top: int


def placement(aspect: Fraction, width: int, height: int, fit: str) -> Placement:
    """aspect: width by height of the picture as a player shows it."""
    if fit == "stretch":
        return Placement(width, height, 0, 0)
    wide, high = max(1, round(height * aspect)), max(1, round(width / aspect))
    by_width = (wide >= width) == (fit == "pad")  # the side that decides the scale
    scaled = (width, high) if by_width else (wide, height)
    return Placement(*scaled, (width - scaled[0]) // 2, (height - scaled[1]) // 2)


def placed(pixels: Pixels, place: Placement, width: int, height: int, background: tuple[int, int, int]) -> Pixels:
    """`pixels`, already of the placement's size, cut or framed to uint8 [height, width, 3]."""
    left, top = max(0, -place.left), max(0, -place.top)
    seen = pixels[top : top + height, left : left + width]
    if seen.shape[:2] == (height, width):
        return np.ascontiguousarray(seen)
    framed = np.empty((height, width, 3), np.uint8)
    framed[:] = background
    y, x = max(0, place.top), max(0, place.left)
    framed[y : y + seen.shape[0], x : x + seen.shape[1]] = seen
    return framed


def fit(picture: Image.Image, width: int, height: int, options: ReadOptions, aspect: Fraction | None = None) -> Pixels:
    """An RGB picture as uint8 [height, width, 3]. aspect: if its pixels are not square."""
    aspect = aspect or Fraction(picture.width, picture.height)
    place = placement(aspect, width, height, options.fit)
    box, size = (0.0, 0.0, float(picture.width), float(picture.height)), (place.width, place.height)
    if place.left < 0 or place.top < 0:  # scale only what is seen: a very long picture would need much memory
        x, y = picture.width * max(0, -place.left) / place.width, picture.height * max(0, -place.top) / place.height
        box = (x, y, picture.width - x, picture.height - y)
        size = (min(width, place.width), min(height, place.height))
        place = Placement(*size, max(0, place.left), max(0, place.top))
    if size == picture.size and box == (0, 0, *picture.size):
        pixels = np.array(picture)
    else:
        larger = picture.width < size[0] or picture.height < size[1]
        pixels = np.array(picture.resize(size, Image.Resampling.BICUBIC if larger else Image.Resampling.BOX, box))
    return placed(pixels, place, width, height, options.bars)
