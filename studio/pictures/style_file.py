"""The file of a style, with a small picture of what it was made from."""

from __future__ import annotations

from dataclasses import replace

from pipelines import PictureStyle, write_style
from studio.pictures import codec
from studio.wire.protocol import PictureEncoding

TILE_SIDE = 144
"""Pixels of the tile; the page's tiles of looks have as many."""


def file_of(style: PictureStyle) -> bytes:
    """The file of a style, with a tile if its picture is at hand."""
    if style.source is None:
        return write_style(style)
    tile = codec.encode(codec.fit(style.source, TILE_SIDE, TILE_SIDE), PictureEncoding("jpeg", 85))
    return write_style(replace(style, tile=tile))
