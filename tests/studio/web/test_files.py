"""Static files: the coding that a browser accepts, compressed once, the newest version of a file."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import brotli
import httpx
import pytest

from studio.web import files

TEXT = b"export const answer = 42;\n" * 200


async def get(folder: Path, name: str, accepted: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=files.FreshFiles(directory=folder))
    async with httpx.AsyncClient(transport=transport, base_url="http://rill") as client:
        return await client.get(f"/{name}", headers={"Accept-Encoding": accepted, **headers})


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip, deflate", "gzip"),
        ("GZIP", "gzip"),
        ("br;q=0, gzip;q=0.5", "gzip"),
        ("br;q=0.2, gzip", "br"),
        ("identity", None),
        ("brown, gzipped", None),
        ("br; q=0.0", None),
        (",;", None),
        ("", None),
    ],
)
async def test_the_smallest_coding_that_the_browser_accepts_is_sent(tmp_path: Path, header: str, coding: str | None) -> None:
    (tmp_path / "a.js").write_bytes(TEXT)
    answer = await get(tmp_path, "a.js", header)
    assert (answer.headers.get("content-encoding"), answer.content) == (coding, TEXT)
    assert answer.headers["vary"] == "Accept-Encoding" and answer.headers["cache-control"] == "no-cache"
    assert coding is None or answer.num_bytes_downloaded < len(TEXT) / 10


async def test_a_file_is_compressed_once_and_again_after_a_change(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_bytes(TEXT)
    files.compressed.cache_clear()
    for _ in range(3):
        assert (await get(tmp_path, "a.js", "br")).content == TEXT
    assert files.compressed.cache_info().misses == 1
    (tmp_path / "a.js").write_bytes(changed := TEXT.replace(b"42", b"43"))
    os.utime(tmp_path / "a.js", ns=(1, 1))
    assert (await get(tmp_path, "a.js", "br")).content == changed


async def test_pictures_parts_and_empty_files_arrive_as_they_are(tmp_path: Path) -> None:
    for name, data in (("a.js", TEXT), ("a.jpg", TEXT), ("empty.js", b"")):
        (tmp_path / name).write_bytes(data)
    part = await get(tmp_path, "a.js", "br", Range="bytes=10-19")
    picture = await get(tmp_path, "a.jpg", "br")
    assert (part.status_code, part.content) == (206, TEXT[10:20]) and "content-encoding" not in part.headers
    assert picture.content == TEXT and "content-encoding" not in picture.headers
    assert (await get(tmp_path, "empty.js", "br")).content == b""


def test_each_coding_holds_the_whole_file(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_bytes(TEXT)
    assert brotli.decompress(files.compressed(str(tmp_path / "a.css"), 0, "br")) == TEXT
    assert gzip.decompress(files.compressed(str(tmp_path / "a.css"), 0, "gzip")) == TEXT
