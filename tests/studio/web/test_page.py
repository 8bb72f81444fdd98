"""The page and the stream on one server: neither hides the other."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from studio.web.server import ASSETS
from tests.studio.harness import Running, colour, coloured, joined, serving


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(with_page=True) as server:
        yield server


async def get(running: Running, path: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return await client.get(f"http://{running.host}{path}")


async def test_the_page_and_its_files_are_served(running: Running) -> None:
    page = await get(running, "/")
    assert page.status_code == 200 and "rill/client/" in page.text
    script = await get(running, "/rill/client/studio.js")
    assert script.status_code == 200 and "javascript" in script.headers["content-type"]
    assert script.headers["cache-control"] == "no-cache" and script.headers["x-content-type-options"] == "nosniff"
    assert (await get(running, "/healthz")).json()["status"] == "ok"
    for hidden in ("/rill/client/../../app.py", "/rill/client/%2e%2e/%2e%2e/app.py", "/docs", "/openapi.json"):
        assert "argparse" not in (await get(running, hidden)).text


SOURCE_BYTES = 273_200
SENT_BYTES = {"br": 90_300, "gzip": 106_200}
"""Everything together. tests/browser/test_first_load.py has the limits of what a visitor waits for."""


def client_paths() -> list[str]:
    """The addresses of everything in the client's folder, whether this page requests it or not."""
    return [
        f"/rill/client/{path.relative_to(ASSETS / 'client').as_posix()}"
        for path in sorted((ASSETS / "client").rglob("*"))
        if path.is_file()
    ]


@pytest.mark.parametrize("coding", SENT_BYTES)
async def test_the_client_is_small(running: Running, coding: str) -> None:
    """Without Gradio's own: bytes of the source, and bytes over the wire to a browser that accepts this coding."""
    paths, source, sent = client_paths(), 0, 0
    async with httpx.AsyncClient(base_url=f"http://{running.host}", trust_env=False, timeout=60) as client:
        for path in paths:
            answer = await client.get(path, headers={"Accept-Encoding": coding})
            assert answer.status_code == 200
            source, sent = source + len(answer.content), sent + answer.num_bytes_downloaded
    assert 100_000 < source <= SOURCE_BYTES
    assert 20_000 < sent <= SENT_BYTES[coding]


async def test_the_head_names_the_modules_of_the_first_load_and_no_others(running: Running) -> None:
    page = (await get(running, "/")).text
    named = set(re.findall(r'rel="modulepreload" href="rill/client/([^"]+)"', page))
    assert {"studio.js", "parts/stage.js", "wire/protocol.js"} <= named
    for path in named:
        imports = re.findall(r'^(?:import|export)[^;]* from "([^"]+)"', (ASSETS / "client" / path).read_text(), re.MULTILINE)
        folder = (ASSETS / "client" / path).parent
        assert {(folder / name).resolve().relative_to(ASSETS / "client").as_posix() for name in imports} <= named, path
    assert not named & {"parts/engine.js", "parts/easel.js", "parts/exchange.js", "parts/afterwards.js"}


@pytest.mark.parametrize("accepted", ["br", "gzip", "identity"])
async def test_a_file_arrives_whole_whatever_encoding_is_accepted(running: Running, accepted: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://{running.host}", trust_env=False, timeout=60) as client:
        script = await client.get("/rill/client/studio.js", headers={"Accept-Encoding": accepted})
        picture = await client.get("/rill/presets/cartoon.jpg", headers={"Accept-Encoding": accepted})
        part = await client.get("/rill/client/studio.js", headers={"Accept-Encoding": accepted, "Range": "bytes=10-19"})
    assert script.content == (whole := (ASSETS / "client" / "studio.js").read_bytes())
    assert script.headers.get("content-encoding", "identity") == accepted
    assert "accept-encoding" in script.headers["vary"].lower()
    assert "content-encoding" not in picture.headers and picture.content == (ASSETS / "presets" / "cartoon.jpg").read_bytes()
    assert (part.status_code, part.content) == (206, whole[10:20]) and "content-encoding" not in part.headers


@pytest.mark.parametrize("accepted", ["br", "gzip", "identity"])
async def test_a_script_is_sent_once(running: Running, accepted: str) -> None:
    address = f"http://{running.host}/rill/client/studio.css"
    async with httpx.AsyncClient(trust_env=False, headers={"Accept-Encoding": accepted}) as client:
        first = await client.get(address)
        again = await client.get(address, headers={"If-None-Match": first.headers["etag"]})
        other = await client.get(address, headers={"If-None-Match": '"another"'})
        head = await client.head(address)
    assert first.headers["content-type"].startswith("text/css") and first.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"") and again.headers["etag"] == first.headers["etag"]
    assert again.headers["cache-control"] == "no-cache"
    assert other.status_code == 200 and other.content == first.content
    assert head.headers["content-length"] == str(len(first.content)) and head.content == b""


async def test_the_stream_runs_beside_the_page(running: Running) -> None:
    async with joined(running, settings={"prompt": "red"}) as peer:
        assert colour(await peer.round(coloured(100, 100, 100))) == (177, 50, 50)


def test_the_browser_client_is_where_the_server_looks_for_it() -> None:
    assert (ASSETS / "client" / "studio.js").is_file() and (ASSETS / "samples").is_dir()
