"""The file of a style, with a small picture of what it was made from."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from pipelines import PictureStyle, Pixels, write_style
from studio.pictures import codec
from studio.wire.limits import Limits
from studio.wire.protocol import PictureEncoding, ProtocolError

TILE_SIDE = 144
"""Pixels of the tile; the page's tiles of looks have as many."""
TILE = PictureEncoding("jpeg", 85)


def file_of(style: PictureStyle) -> bytes:
    """The file of a style, with a tile if its picture is at hand."""
    if style.source is None:
        return write_style(style)
    return write_style(replace(style, tile=codec.encode(_tile(style), TILE)))


def mixture(first: PictureStyle, second: PictureStyle, blend: float) -> PictureStyle:
    """What is painted with both at this blend: 0 is the first, 1 the second. Origin and licence name both. Raises ModelError for
    styles of two painters."""
    first.check(second.painter, len(second.numbers), "picture")
    numbers = ((1 - blend) * first.numbers + blend * second.numbers).astype(np.float32)
    origin, licence = _both(first.picture, second.picture, 300), _both(first.licence, second.licence, 60)
    tile = codec.encode(cv2.addWeighted(_tile(first), 1 - blend, _tile(second), blend, 0), TILE)
    return PictureStyle(numbers, first.painter, "", tile, origin, licence, min(first.fitted, second.fitted))


def _both(one: str, other: str, most: int) -> str:
    text = " + ".join(dict.fromkeys(filter(None, (one, other))))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _tile(style: PictureStyle) -> Pixels:
    """uint8 [TILE_SIDE, TILE_SIDE, 3]; grey where nothing is known of the picture."""
    seen = style.source
    if seen is None:
        try:
            seen = codec.read(memoryview(style.tile), "jpeg", Limits())
        except ProtocolError:
            seen = np.full((TILE_SIDE, TILE_SIDE, 3), 128, np.uint8)
    return codec.fit(seen, TILE_SIDE, TILE_SIDE)
