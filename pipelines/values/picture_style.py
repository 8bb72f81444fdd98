"""A style that was made from a picture: its numbers, and the small file that keeps and shares it. Knows no torch, no network.

The file is safetensors: `numbers` [N] float32 and `tile`, the bytes of a JPEG; in its metadata the format's name, the style's
name, the fingerprint of the painter that the numbers are of, where the picture is from, its licence, and a CRC-32 of all that.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from pipelines.values.types import ModelError, Pixels

FORMAT = "rill-style-1"
MAX_BYTES = 256 * 1024
MAX_NUMBERS = 16384
LARGEST = 1000.0
"""Numbers beyond this are none of a style: scales and shifts of normalised channels are below 20."""
TONE = 7
"""Numbers of a tone, behind the others of a style: its share from 0 to 1, then R, G, B of its dark and of its light, in [-1, 1].
Styles of pictures have none."""

MAX_TEXT = {"name": 60, "picture": 300, "licence": 60}
KINDS: dict[str, Any] = {"F32": np.float32, "U8": np.uint8}

Numbers = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PictureStyle:
    """numbers: float32 [N], of the painter with that fingerprint. tile: a small JPEG of the picture, or empty. picture: where the
    picture is from. fitted: iterations of the fit that made the numbers; 0 for predicted ones. source: the picture, uint8
    [height, width, 3], where it is at hand; it is not kept in the file."""

    numbers: Numbers
    painter: str
    name: str = ""
    tile: bytes = field(default=b"", repr=False)
    picture: str = ""
    licence: str = ""
    fitted: int = 0
    source: Pixels | None = field(default=None, repr=False)

    def check(self, painter: str, numbers: int, label: str = "style") -> None:
        """Raises ModelError if it is not for the painter with this fingerprint, of so many numbers a style."""
        if self.painter != painter:
            raise ModelError(f"{label}: is for another painter ({self.painter}); this model's is {painter}")
        if len(self.numbers) != numbers:
            raise ModelError(f"{label}: has {len(self.numbers)} numbers; a style of this painter has {numbers}")


def write_style(style: PictureStyle) -> bytes:
    """The file's bytes. Raises ModelError for a style that `read_style` would refuse."""
    texts = {name: str(getattr(style, name)) for name in MAX_TEXT}
    _check(style.numbers, texts, "style")
    tensors: dict[str, NDArray[Any]] = {
        "numbers": np.ascontiguousarray(style.numbers, np.float32),
        "tile": np.frombuffer(style.tile, np.uint8),
    }
    head = {"format": FORMAT, "painter": style.painter, "fitted": str(style.fitted), **texts}
    data: bytes = save(tensors, {**head, "crc": _crc(tensors, head)})
    if len(data) > MAX_BYTES:
        raise ModelError(f"style: its file has {len(data)} bytes; {MAX_BYTES} are allowed")
    return data


def read_style(data: bytes, label: str = "style") -> PictureStyle:
    """Raises ModelError, with `label` in front, for anything but a whole file of this format."""
    if len(data) > MAX_BYTES:
        raise ModelError(f"{label}: has {len(data)} bytes; a style's file has at most {MAX_BYTES}")
    tensors, head = _opened(data, label)
    crc = head.pop("crc", "")
    if head.get("format") != FORMAT or set(tensors) != {"numbers", "tile"}:
        raise ModelError(f"{label}: is no style's file ({FORMAT}, with numbers and tile)")
    numbers, tile = tensors["numbers"], tensors["tile"]
    if numbers.dtype != np.float32 or numbers.ndim != 1 or tile.dtype != np.uint8 or tile.ndim != 1:
        raise ModelError(f"{label}: numbers must be float32 [N] and tile uint8 [bytes]")
    if crc != _crc(tensors, head):
        raise ModelError(f"{label}: is damaged: its checksum is of other content")
    texts = {name: head.get(name, "") for name in MAX_TEXT}
    _check(numbers, texts, label)
    fitted = head.get("fitted", "0")
    steps = int(fitted) if fitted.isascii() and fitted.isdigit() else 0
    name, picture, licence = texts["name"], texts["picture"], texts["licence"]
    return PictureStyle(numbers, head.get("painter", ""), name, tile.tobytes(), picture, licence, steps)


def is_style(data: bytes) -> bool:
    """Whether these bytes begin as a safetensors file does: a header's length, then JSON. No picture does."""
    return len(data) > 8 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < MAX_BYTES


def _check(numbers: Numbers, texts: dict[str, str], label: str) -> None:
    if not 0 < len(numbers) <= MAX_NUMBERS:
        raise ModelError(f"{label}: has {len(numbers)} numbers; 1 to {MAX_NUMBERS} are allowed")
    if not np.isfinite(numbers).all() or np.abs(numbers).max() > LARGEST:
        raise ModelError(f"{label}: its numbers must lie between -{LARGEST:g} and {LARGEST:g}; some do not, or are not finite")
    for name, text in texts.items():
        if len(text) > MAX_TEXT[name] or not text.isprintable():
            raise ModelError(f"{label}: {name} must be at most {MAX_TEXT[name]} printable characters")


def _opened(data: bytes, label: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """(tensors, metadata)."""
    try:
        found = dict(deserialize(data))  # type: ignore[no-untyped-call, unused-ignore]
        header = data[8 : 8 + int.from_bytes(data[:8], "little")]
        head = json.loads(header).get("__metadata__", {})
        if not header.rstrip(b" ").endswith(b"}"):
            raise ValueError("its header is padded with other than spaces")
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ModelError(f"{label}: is damaged, or no style's file ({error})") from error
    if not all(entry["dtype"] in KINDS for entry in found.values()):
        raise ModelError(f"{label}: holds other numbers than float32 and uint8")
    tensors = {
        name: np.array(np.frombuffer(bytes(entry["data"]), KINDS[entry["dtype"]]).reshape(entry["shape"]))
        for name, entry in found.items()
    }
    return tensors, {str(key): str(value) for key, value in head.items()}


def _crc(tensors: Mapping[str, NDArray[Any]], head: Mapping[str, str]) -> str:
    text = "\n".join(f"{key}={head[key]}" for key in sorted(head))
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].tobytes(), crc)
    return f"{crc:08x}"
