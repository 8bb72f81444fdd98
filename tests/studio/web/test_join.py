"""The QR code of the page's address: what it holds, for which addresses there is one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import cv2
import httpx
import numpy as np
import pytest

from studio.web.join import LONGEST, code
from studio.wire.limits import Limits
from studio.wire.origin import AddressRule
from tests.studio.harness import Running, serving


def read(svg: bytes) -> str:
    """What a phone's camera reads: the modules of the picture, drawn and decoded."""
    text = svg.decode()
    side = int(text.partition('viewBox="0 0 ')[2].split()[0])
    modules = np.full((side, side), 255, np.uint8)
    x, y = 4.0, 4.5
    for step, across, down in re.findall(r"([hm])(-?[\d.]+)(?: (-?[\d.]+))?", text.partition('d="M4 4.5')[2]):
        if step == "h":
            modules[int(y), int(x) : int(x + float(across))] = 0
        x, y = x + float(across), y + float(down or 0)
    large = cv2.resize(modules, None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
    return cv2.QRCodeDetector().detectAndDecode(large)[0]


@pytest.mark.parametrize("address", [("http://192.168.1.20:7860", "/"), ("https://rill.example", "/studio/a-b/")])
def test_a_camera_reads_the_address(address: tuple[str, str]) -> None:
    assert read(code(*address)) == "".join(address)


@pytest.mark.parametrize("path", ["", "x", "/x", "//", "/a b/", "/?x=/", "/#/", "/%2e/", "/a\\n/", "/" + "a" * LONGEST + "/"])
def test_what_is_no_place_of_a_page_is_refused_by_name(path: str) -> None:
    with pytest.raises(ValueError, match=r"path|characters"):
        code("http://localhost", path)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(Limits(), AddressRule(("rill.example",), trusted_proxy=True)) as server:
        yield server


async def get(running: Running, query: str = "", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://{running.host}/rill/join.svg{query}", headers=headers)


async def test_the_code_is_of_the_address_that_the_browser_used(running: Running) -> None:
    answer = await get(running)
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert read(answer.content) == f"http://{running.host}/"
    proxied = {"x-forwarded-proto": "https", "x-forwarded-host": "rill.example"}
    assert read((await get(running, "?path=/studio/", **proxied)).content) == "https://rill.example/studio/"


async def test_a_bad_path_is_a_bad_request(running: Running) -> None:
    answer = await get(running, "?path=javascript:alert(1)")
    assert answer.status_code == 400 and answer.text.startswith("path:")
