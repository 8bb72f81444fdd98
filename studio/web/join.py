"""The QR code that brings a phone to the page. Pure, but for a cache."""

from __future__ import annotations

import io
import re
from functools import lru_cache

import segno

LONGEST = 256
"""Characters of an address: a longer one makes a code that a phone reads badly, and takes long to make."""

_PATH = re.compile(r"/(?:[A-Za-z0-9._~-]+/)*")


@lru_cache(maxsize=16)
def code(origin: str, path: str) -> bytes:
    """SVG of the QR code of `origin` + `path`, black on white with its quiet zone, scalable.

    origin: of `studio.wire.origin.own_origin`. path: where the page is, from "/" to "/". Raises ValueError for another path, and
    for more than `LONGEST` characters.
    """
    if not _PATH.fullmatch(path):
        raise ValueError("path: letters, digits, . _ ~ and - between slashes are allowed, from / to /")
    if len(origin + path) > LONGEST:
        raise ValueError(f"the address has {len(origin + path)} characters; {LONGEST} are allowed")
    svg = io.BytesIO()
    segno.make_qr(origin + path, error="m").save(svg, kind="svg", xmldecl=False, omitsize=True, light="#fff")
    return svg.getvalue()
