"""Makes docs/pictures from the running studio: python -m tests.browser.pictures [URL] [NAME.jpg ...].

Without a URL it starts one, without names it makes all.
"""

from __future__ import annotations

import base64
import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from tests.browser import chrome
from tests.browser.chrome import Page

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "pictures"
WARM_UP = 6.0
"""Seconds of streaming before the picture, so that the numbers have settled."""


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The URL of a studio that lives as long as the context."""
    command = [sys.executable, str(ROOT / "app.py"), "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdout is not None
        try:
            yield next(found.group() for line in server.stdout if (found := re.search(r"https?://[\w.:]+", line)))
        finally:
            server.terminate()


CAMERA_FRAMES = range(0, 60)
"""Frames of the sample clip that play as the camera in the pictures: a face."""

CAMERA_NAME = """for (const item of document.querySelectorAll("select[aria-label=Camera] option")) item.textContent = "Webcam";"""
"""Chromium calls its camera by the path of the file that plays there."""

PAINTING = """
const { colour: layer } = rill.easel.layers;
const stroke = (colour, size, ...points) => {
  points.forEach(([x, y], index) => (index ? layer.move(x, y) : layer.begin(x, y, { colour, size })));
  layer.end();
};
stroke('#2f7fd6', 0.5, [0, 0.2], [1, 0.2]);
stroke('#3fa34d', 0.4, [0, 0.85], [1, 0.8]);
stroke('#f6d13a', 0.16, [0.78, 0.2], [0.79, 0.2]);
stroke('#8a5a34', 0.07, [0.3, 0.75], [0.3, 0.45]);
stroke('#3fa34d', 0.24, [0.3, 0.4], [0.32, 0.38]);
stroke('#d7332b', 0.14, [0.62, 0.66], [0.72, 0.66]);
"""
"""A sky, a meadow, a sun, a tree and a roof."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture: `scripts` prepare the page one after the other (what a visitor would click), then it settles."""

    name: str
    scripts: tuple[str, ...] = ()
    size: tuple[int, int] = (1280, 800)
    theme: str = "dark"
    phone: bool = False
    camera: bool = False
    elsewhere: bool = False  # the clean page of this session, not the page itself
    settle: float = WARM_UP
    until: str = "true"  # what must hold before it settles

    def __post_init__(self) -> None:
        if isinstance(self.scripts, str):
            raise TypeError(f"{self.name}: scripts are a tuple; a string would run letter by letter")


def click(selector: str) -> str:
    return f"document.querySelector({selector!r}).click();"


def prompt(text: str) -> str:
    return f"rill.settings.put('prompt', {text!r});"


SHOTS = (
    Shot("studio-dark.jpg", (prompt("starry blue swirl"),), (1440, 900)),
    Shot("studio-light.jpg", (prompt("pencil sketch") + "rill.settings.put('cache.enabled', true);",), (1440, 900), "light"),
    Shot("studio-phone.jpg", (prompt("crimson and gold brush"),), (390, 844), phone=True),
    Shot("webcam.jpg", (prompt("cartoon"), click(".rill-kind[data-kind=camera]")), camera=True, settle=12.0),
    Shot("prompt.jpg", (prompt("watercolour") + "rill.settings.put('prompt_b', 'engraving');"
                        "rill.settings.put('blend', 0.4);",)),
    Shot("paint.jpg", (prompt("oil painting"), click(".rill-kind[data-kind=paint]"), PAINTING)),
    Shot("compare.jpg", (prompt("neon outlines"), click(".rill-tools button[aria-label^=Wipe]"))),
    Shot("speed.jpg", (prompt("cartoon"), "rill.openEngine('rill-row-cache');",
                       click(".rill-part-measured[data-of=cache] button")),
         until="document.querySelector('.rill-part-measured[data-of=cache] button').textContent === 'Again'"),
    Shot("keep.jpg", (prompt("blueprint"), click(".rill-part-keep button[title^=Record]"),
                      click(".rill-part-keep button[title^='Addresses']"),
                      "document.querySelector('#rill-keep').scrollIntoView({ block: 'end' });"), theme="light"),
    Shot("view.jpg", (prompt("vaporwave"), click(".rill-part-keep button[title^=Addresses]")), (960, 540), elsewhere=True),
)  # fmt: skip


def write_camera(path: Path) -> Path:
    """The part of the sample clip that plays as the camera, as Chromium wants it."""
    clip = cv2.VideoCapture(str(ROOT / "assets" / "samples" / "sample.mp4"))
    with path.open("wb") as file:
        for _ in CAMERA_FRAMES:
            found, frame = clip.read()
            assert found
            file.write(
                cv2.imencode(".jpg", cv2.copyMakeBorder(cv2.resize(frame, (480, 480)), 0, 0, 80, 80, cv2.BORDER_REFLECT))[
                    1
                ].tobytes()
            )
    return path


def take(url: str, shot: Shot, camera: Path) -> None:
    """One picture of the live page as JPEG."""
    driver = chrome.start(*(chrome.camera(camera) if shot.camera else ()), size=shot.size, phone=shot.phone)
    try:
        width, height = shot.size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if shot.phone else 1, "mobile": shot.phone}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        page = Page(driver, url).open(shot.theme).live()
        for script in shot.scripts:
            page.js(script)
            time.sleep(1.0)
        page.wait("what the picture shows", lambda: page.js(f"return {shot.until}"), 180)
        time.sleep(shot.settle)
        if shot.elsewhere:
            address = "return document.querySelector('.rill-view input')?.value"
            clean = page.wait("the address", lambda: page.js(address))
            driver.switch_to.new_window("tab")
            driver.get(clean)
            page.wait("pictures", lambda: page.js("return document.querySelector('canvas').dataset.pictures > 3"))
        page.js(CAMERA_NAME)
        data = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "jpeg", "quality": 80})["data"]
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / shot.name).write_bytes(base64.b64decode(data))
    finally:
        driver.quit()


def main(url: str, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        camera = write_camera(Path(folder) / "camera.mjpeg")
        for shot in SHOTS:
            if not names or shot.name in names:
                take(url, shot, camera)


if __name__ == "__main__":
    given = [argument for argument in sys.argv[1:] if "://" in argument]
    chosen = [argument for argument in sys.argv[1:] if "://" not in argument]
    if given:
        main(given[0], chosen)
    else:
        with serving() as address:
            main(address, chosen)
