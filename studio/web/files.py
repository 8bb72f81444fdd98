"""Static files: compressed once, and requested again each time (304): no browser mixes old and new files after an update."""

from __future__ import annotations

import functools
import gzip
import os
from pathlib import Path

import anyio.to_thread
import brotli
from fastapi.staticfiles import StaticFiles
from starlette.responses import FileResponse, Response
from starlette.types import Scope

TEXT = {".js", ".css", ".svg", ".json"}
"""What is worth compressing; pictures and clips are compressed already."""
CODINGS = ("br", "gzip")
"""The smaller one first. Browsers accept br over HTTPS and from this computer, gzip everywhere."""


class FreshFiles(StaticFiles):
    """Files of a folder; texts in the smallest coding that the browser accepts. A part of a file (Range) is not compressed."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        if not isinstance(response, FileResponse) or response.stat_result is None or Path(response.path).suffix not in TEXT:
            return response
        response.headers["Vary"] = "Accept-Encoding"
        asked = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        coding = accepted(asked.get(b"accept-encoding", ""))
        if coding is None or b"range" in asked or scope["method"] == "HEAD":
            return response
        modified_ns = response.stat_result.st_mtime_ns
        body = await anyio.to_thread.run_sync(compressed, os.fspath(response.path), modified_ns, coding)
        headers = {name: value for name, value in response.headers.items() if name not in ("content-length", "accept-ranges")}
        return Response(body, response.status_code, headers | {"Content-Encoding": coding})


def accepted(header: str) -> str | None:
    """The coding of CODINGS to use for this Accept-Encoding, or None for none of them."""
    names = [part.partition(";") for part in header.lower().replace(" ", "").split(",")]
    usable = {name for name, _, weight in names if weight not in ("q=0", "q=0.0", "q=0.00", "q=0.000")}
    return next((coding for coding in CODINGS if coding in usable), None)


@functools.lru_cache(maxsize=512)
def compressed(path: str, modified_ns: int, coding: str) -> bytes:
    """A file's bytes in `coding`; `modified_ns` tells its versions apart. All of the client takes 0.3 s in br, once."""
    data = Path(path).read_bytes()
    return brotli.compress(data, mode=brotli.MODE_TEXT) if coding == "br" else gzip.compress(data, 9, mtime=0)
