"""What an unreadable file is, and what is left of a WebP that is cut off. Reads headers and boxes, decodes nothing."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

HEAD = 4096
OGG_PAGE = 65_307  # bytes of the longest page
BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"moof", b"styp", b"sidx", b"meta", b"pnot")
KINDS = (
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive, or a document that is one"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"version https://git-lfs", "a pointer of Git LFS; the file itself was not fetched"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"FUJIFILMCCD-RAW", "a camera's raw picture; export it as TIFF or JPEG"),
)


def what_it_is(path: Path) -> str | None:
    """Why a file that neither Pillow nor FFmpeg opens cannot be shown, as the end of a sentence; None if nothing is known."""
    try:
        with path.open("rb") as file:
            head, size = file.read(HEAD), os.fstat(file.fileno()).st_size
            if head[4:8] in BOXES:
                return _of_boxes(file, size)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if not head:
        return "is empty (0 bytes)"
    if not head.strip(b"\0"):
        return "begins with zeros only; it was probably never written to its end"
    kind = next((kind for start, kind in KINDS if head.startswith(start)), None) or _of_text(head)
    return None if kind is None else f"is {kind}"


def _of_text(head: bytes) -> str | None:
    """Of text: SVG, a web page or other text; None for other bytes."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<svg", b"<?xml")) and b"<svg" in start:
        return "an SVG, which holds shapes and no pixels; export it as PNG"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page (HTML), not the file that it links to"
    try:
        text = head[:-4].decode() if len(head) == HEAD else head.decode()
    except UnicodeDecodeError:
        return None
    return "text" if all(char.isprintable() or char in "\t\r\n\f" for char in text) else None


def _of_boxes(file: BinaryIO, size: int) -> str | None:
    """Of an MP4, MOV or HEIC: whether its index is there."""
    names = dict(_boxes(file, size))
    if b"moov" in names:
        return "is an MP4 or MOV whose index (moov) is cut off or broken" if not names[b"moov"] else None
    if b"meta" in names and b"mdat" not in names:
        return None
    return (
        "is an MP4 or MOV without its index (moov), which is written at the end: the file is cut off, or its recording was not "
        f"finished. Only the index says where the frames in its {size / 1e6:.1f} MB are and how to decode them"
    )


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, bool]]:
    """The outer boxes: (name, whether it ends within the file)."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        head = file.read(16)
        length, name = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
        end = size if length == 0 else place + length
        yield name, end <= size
        if end < place + 8:
            return
        place = end


def ogg_ends(path: Path) -> bool:
    """Is the last page of an Ogg file marked as a stream's last one? Only a file that is cut off has none."""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - OGG_PAGE))
        tail = file.read()
    place = tail.rfind(b"OggS")
    return 0 <= place < len(tail) - 5 and bool(tail[place + 5] & 0x04)


def whole_frames(data: bytes) -> tuple[bytes, int] | None:
    """An animated WebP that is cut off, without the frame that the cut went through: (file, number of frames). None for another
    file, or one without a whole frame."""
    if data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8X":
        return None
    place, frames = 12, 0
    while place + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, place)
        end = place + 8 + length + length % 2
        if end > len(data):
            break
        frames += name == b"ANMF"
        place = end
    if not frames:
        return None
    return b"RIFF" + struct.pack("<I", place - 8) + data[8:place], frames
