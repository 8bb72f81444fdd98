"""The header of a compressed picture, checked before the picture is decoded. Pure; reads JPEG, PNG and WebP headers.

Refused here because they cost far more to decode than to send: pictures of any size the header may claim, progressive JPEG
(every scan is a pass over the whole picture, and a small file may hold hundreds), animations.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from studio.wire.limits import Limits
from studio.wire.protocol import ProtocolError

# SOF0 baseline and SOF1 extended sequential; the rest is progressive, lossless, hierarchical or arithmetic.
_SOF_PLAIN = (0xC0, 0xC1)
_SOF_OTHER = (0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """format jpeg, png or webp; width and height in pixels as the file claims them; alpha: it may have transparent pixels."""

    format: str
    width: int
    height: int
    alpha: bool = False


def check(data: memoryview, declared: str, limits: Limits) -> PictureHeader:
    """The header of `data`, or ProtocolError bad_frame if it is not `declared`, broken, or beyond the limits."""
    if len(data) > limits.max_frame_bytes:
        raise refuse(f"the picture has {len(data)} bytes; {limits.max_frame_bytes} are allowed")
    header = read_header(data)
    if header.format != declared:
        raise refuse(f"the picture is {header.format}, not {declared}", "format")
    if header.width < 1 or header.height < 1:
        raise refuse("the picture has no pixels")
    if max(header.width, header.height) > limits.max_side or header.width * header.height > limits.max_pixels:
        raise refuse(f"the picture is {header.width}x{header.height}; {limits.max_side} on a side are allowed")
    return header


def read_header(data: memoryview) -> PictureHeader:
    """Format and size of a JPEG, PNG or WebP. Raises ProtocolError bad_frame."""
    start = bytes(data[:12])
    try:
        if start[:3] == b"\xff\xd8\xff":
            return PictureHeader("jpeg", *_jpeg(data))
        if start[:8] == b"\x89PNG\r\n\x1a\n":
            return PictureHeader("png", *_png(data))
        if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
            return PictureHeader("webp", *_webp(data))
    except (struct.error, IndexError) as error:
        raise refuse("the picture ends within its header") from error
    raise refuse("the picture is neither JPEG nor PNG nor WebP", "format")


def _jpeg(data: memoryview) -> tuple[int, int]:
    at = 2
    while True:
        if data[at] != 0xFF:
            raise refuse("the JPEG is broken")
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        if marker in _SOF_PLAIN:
            precision, height, width = struct.unpack_from(">BHH", data, at + 3)
            if precision != 8:
                raise refuse(f"the JPEG has {precision} bits; 8 are allowed")
            return width, height
        if marker in _SOF_OTHER:
            raise refuse("only baseline JPEG is accepted, not progressive or other kinds", "format")
        if marker in (0xD8, 0xD9, 0xDA):
            raise refuse("the JPEG has no frame header")
        (length,) = struct.unpack_from(">H", data, at + 1)
        at += 1 + max(2, length)


def _png(data: memoryview) -> tuple[int, int, bool]:
    length, kind, width, height, _, colours = struct.unpack_from(">I4sIIBB", data, 8)
    if kind != b"IHDR" or length != 13:
        raise refuse("the PNG does not begin with its header")
    at, alpha = 8, colours in (4, 6)  # grey or colour with alpha
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        alpha = alpha or kind == b"tRNS"
        if kind == b"acTL":
            raise refuse("animated PNG is not accepted", "format")
        if kind in (b"IDAT", b"IEND"):
            break
        at += 12 + length
    return width, height, alpha


def _webp(data: memoryview) -> tuple[int, int, bool]:
    kind = bytes(data[12:16])
    if kind == b"VP8X":
        flags, w0, w1, w2, h0, h1, h2 = struct.unpack_from("<B3x6B", data, 20)
        if flags & 0x02:
            raise refuse("animated WebP is not accepted", "format")
        return 1 + (w0 | w1 << 8 | w2 << 16), 1 + (h0 | h1 << 8 | h2 << 16), bool(flags & 0x10)
    if kind == b"VP8 ":
        mark, width, height = struct.unpack_from("<3sHH", data, 23)
        if mark != b"\x9d\x01\x2a":
            raise refuse("the WebP is broken")
        return width & 0x3FFF, height & 0x3FFF, False
    if kind == b"VP8L":
        mark, bits = struct.unpack_from("<BI", data, 20)
        if mark != 0x2F:
            raise refuse("the WebP is broken")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
    raise refuse("the WebP is of an unknown kind")


def refuse(message: str, field: str | None = None) -> ProtocolError:
    """A bad_frame error."""
    return ProtocolError(message, code="bad_frame", field=field)
