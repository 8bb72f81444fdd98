"""Reads Qt's resource archives (.rcc, format "qres" of versions 1 to 3): a tree of files, each plain or compressed with zlib."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

COMPRESSED, FOLDER, ZSTD = 1, 2, 4


def files(path: Path) -> Iterator[tuple[str, bytes]]:
    """(path inside the archive, content) of every file. Raises ValueError for what is no such archive."""
    blob = path.read_bytes()
    magic, version, tree, data, names = struct.unpack_from(">4sIIII", blob)
    if magic != b"qres" or version not in (1, 2, 3):
        raise ValueError(f"{path.name}: is no Qt resource archive of version 1 to 3")
    size = 14 if version == 1 else 22

    def name(at: int) -> str:
        (length,) = struct.unpack_from(">H", blob, names + at)
        return blob[names + at + 6 : names + at + 6 + 2 * length].decode("utf-16-be")

    def walk(node: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        at, flags, a, b = struct.unpack_from(">IHII", blob, tree + node * size)
        here = f"{prefix}/{name(at)}" if node else ""
        if flags & FOLDER:
            for child in range(b, b + a):
                yield from walk(child, here)
            return
        (length,) = struct.unpack_from(">I", blob, data + b)
        content = blob[data + b + 4 : data + b + 4 + length]
        if flags & ZSTD:
            raise ValueError(f"{path.name}: {here} is compressed with zstd, which is not read")
        yield here.lstrip("/"), zlib.decompress(content[4:]) if flags & COMPRESSED else content

    yield from walk(0, "")
