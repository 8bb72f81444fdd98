"""Puts GCompris' paintings together: each comes as the pieces of a jigsaw, and a board of where their centres lie."""

from __future__ import annotations

import re
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def pieces(board: str) -> tuple[str, int, int, list[tuple[str, float, float]]]:
    """(title, width, height, [(file, x, y of its centre as a share)]) of a board's QML. Raises ValueError for another form."""
    title = re.search(r'instruction: qsTr\("(.*?)"\)', board)
    size = re.search(r'"width":\s*(\d+),\s*"height":\s*(\d+)', board)
    found = re.findall(r'"pixmapfile"\s*:\s*"(.*?)",\s*"x"\s*:\s*"(.*?)",\s*"y"\s*:\s*"(.*?)"', board)
    if not (title and size and found):
        raise ValueError("board: no title, size and pieces")
    return title[1], int(size[1]), int(size[2]), [(file, float(x), float(y)) for file, x, y in found]


def assemble(board: str, read: Callable[[str], bytes]) -> tuple[str, Picture]:
    """(title, RGB picture), cut to what the pieces cover. `read` gives the content of a piece's file."""
    title, width, height, parts = pieces(board)
    canvas = np.zeros((height, width, 4), np.uint8)
    for file, x, y in parts:
        piece = decode(read(file))
        if piece.shape[2] == 3:
            piece = np.asarray(cv2.cvtColor(piece, cv2.COLOR_BGR2BGRA))
        _paste(canvas, piece, round(x * width - piece.shape[1] / 2), round(y * height - piece.shape[0] / 2))
    return title, _cut(canvas)


def decode(data: bytes) -> Picture:
    """[H, W, 3] in BGR or [H, W, 4] in BGRA. Raises ValueError for what is no picture in colour."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3:
        raise ValueError("picture: cannot be decoded, or is grey")
    return np.asarray(picture, np.uint8)


def _paste(canvas: Picture, piece: Picture, left: int, top: int) -> None:
    height, width = piece.shape[:2]
    y0, y1 = max(top, 0), min(top + height, canvas.shape[0])
    x0, x1 = max(left, 0), min(left + width, canvas.shape[1])
    under = canvas[y0:y1, x0:x1]
    over = piece[y0 - top : y1 - top, x0 - left : x1 - left]
    solid = over[..., 3:] > np.maximum(under[..., 3:], 16)  # a seam is taken from the piece that covers it more
    under[:] = np.where(solid, over, under)


def _cut(canvas: Picture) -> Picture:
    """RGB of what is covered, without outer rows and columns that are so in part; what is left of gaps is filled from beside."""
    inside = canvas
    for share in (0.0, 0.9):  # the board's own border, then the ragged edge
        covered = inside[..., 3] > 200
        rows, columns = np.flatnonzero(covered.mean(1) > share), np.flatnonzero(covered.mean(0) > share)
        inside = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    gaps = (inside[..., 3] <= 200).astype(np.uint8)
    whole = cv2.inpaint(np.ascontiguousarray(inside[..., :3]), cv2.dilate(gaps, np.ones((3, 3), np.uint8)), 3, cv2.INPAINT_TELEA)
    return np.asarray(cv2.cvtColor(whole, cv2.COLOR_BGR2RGB))
