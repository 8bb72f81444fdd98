"""Headless Chromium for tests: where it is, how it starts, what its canvas shows."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "artifacts"
SAMPLE = ROOT / "assets" / "samples" / "sample.mp4"
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--mute-audio",
    "--disable-extensions",
    "--disable-site-isolation-trials",  # no second renderer process beside the page's
    "--disable-features=Translate,MediaRouter,OptimizationHints,IsolateOrigins,site-per-process",
)
PATIENCE = 120.0
"""Seconds until a test gives up; a busy machine needs half a minute to load the page."""


def binaries() -> tuple[str, str]:
    """Paths of chromium and chromedriver; installs Debian's packages if it may, else skips the test with the reason."""
    found = _find()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(["apt-get", "update", "-q"], capture_output=True, timeout=40)
            subprocess.run(["apt-get", "install", "-y", "-q", "chromium", "chromium-driver"], capture_output=True, timeout=110)
        found = _find()
    if found is None:
        pytest.skip("Chromium and its driver are not installed (Debian: apt-get install chromium chromium-driver)")
    return found


def _find() -> tuple[str, str] | None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


def start(*arguments: str, size: tuple[int, int] = (1440, 900), phone: bool = False, listen: bool = False) -> webdriver.Chrome:
    """A browser window of `size` CSS pixels; with `phone` one that emulates touch and a phone's viewport.

    listen: keep what goes over the network for Page.requested_hosts. It costs 2 ms a picture: the driver copies each message.
    """
    browser, driver = binaries()
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.add_experimental_option("prefs", {"profile.default_content_setting_values.media_stream_camera": 0})
    if phone:
        metrics = {"width": size[0], "height": size[1], "pixelRatio": 2, "mobile": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    for argument in (*QUIET, f"--window-size={size[0]},{size[1]}", *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", **({"performance": "ALL"} if listen else {})})
    return webdriver.Chrome(service=Service(driver), options=options)


def camera(clip: Path) -> tuple[str, ...]:
    """Arguments that make `clip` (.mjpeg) the browser's camera."""
    return (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={clip}",
    )


def write_camera_clip(path: Path, bgr: tuple[int, int, int], frames: int = 30) -> Path:
    """A file that Chromium plays as its camera: 640×480 in one colour with a white bar that moves."""
    with path.open("wb") as file:
        for index in range(frames):
            picture = np.full((480, 640, 3), bgr, np.uint8)
            left = 80 + index * 16
            picture[120:360, left : left + 48] = 255
            file.write(cv2.imencode(".jpg", picture)[1].tobytes())
    return path


AXE = "axe-core@4.10.3"


def axe() -> str:
    """The script of axe-core, which looks for barriers in a page; fetched once from npm into .cache, else the test is skipped."""
    folder = ARTIFACTS.parent / ".cache" / "axe"
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.is_file() and shutil.which("npm"):
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-save", "--prefix", str(folder), AXE]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=60)
    if not script.is_file():
        pytest.skip(f"{AXE} cannot be had: npm is not installed or reaches no registry")
    return script.read_text(encoding="utf-8")


class Page:
    """The studio's page in a browser, as a test sees it."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url
        self.reusable = True  # see the fixture open_page

    def open(self, theme: str = "dark", fresh: bool = True) -> Page:
        """Load the page as on a first visit; with `fresh` false, this browser keeps its storage of earlier visits."""
        if fresh:
            clear = {"origin": "/".join(self.url.split("/")[:3]), "storageTypes": "local_storage"}
            self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", clear)
        self.driver.get(f"{self.url}/?__theme={theme}")
        return self

    def engine(self) -> Page:
        """Opens the drawer with everything beyond the first depth."""
        self.wait("the drawer", lambda: self.js("return Boolean(globalThis.rill?.openEngine)"))
        self.js("if (document.body.dataset.engine !== 'open') return rill.openEngine()")
        return self

    def js(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, what: str, true: Callable[[], Any], patience: float = PATIENCE) -> Any:
        """The first true value of `true()`; fails naming `what`. An element that the page replaces meanwhile is not yet it."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            with contextlib.suppress(StaleElementReferenceException):
                if value := true():
                    return value
            time.sleep(0.05)
        raise AssertionError(f"waited {patience:.0f} s for: {what}; status: {self.status()!r}, notice: {self.notice()!r}")

    def box(self, selector: str) -> dict[str, float]:
        """x, y, width and height of an element as it is now, in CSS pixels of the window; zeros where there is none.

        In one call: between finding an element and asking for its place the page may have put another one there.
        """
        script = """const element = document.querySelector(arguments[0]);
          const { x, y, width, height } = element?.getBoundingClientRect() ?? new DOMRect();
          return { x, y, width, height }"""
        found: dict[str, float] = self.js(script, selector)
        return found

    def live(self, patience: float = PATIENCE) -> Page:
        live = "return Boolean(globalThis.rill?.seenPicture && rill.link.state === 'live')"
        self.wait("a first picture", lambda: self.js(live), patience)
        self.js("rill.afterwards.then(() => (globalThis.complete = true))")
        self.wait("what comes after it", lambda: self.js("return globalThis.complete === true"), patience)
        return self

    def status(self) -> str:
        return str(self.js("return document.querySelector('.rill-words')?.textContent ?? ''"))

    def notice(self) -> str:
        return str(self.js("return document.querySelector('.rill-notice:not([hidden]) span')?.textContent ?? ''"))

    def canvas(self) -> NDArray[np.uint8]:
        """The output canvas, RGB."""
        data = self.js("return document.querySelector('#rill-output').toDataURL('image/png').split(',')[1]")
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        return np.asarray(picture[..., ::-1], np.uint8)

    def mean(self) -> NDArray[np.float64]:
        """Mean red, green and blue of the canvas."""
        return self.canvas().reshape(-1, 3).mean(axis=0)

    def at_rest(self) -> None:
        """Wait until no setting is on its way to the server."""
        self.wait("a stream at rest", lambda: self.js("return rill.link.state === 'live' && !rill.settings.busy"))

    def choose(self, kind: str) -> None:
        """Choose an input, again as often as the notice says "Try again": a camera that gives no picture in time has failed."""
        click = "document.querySelector(`.rill-kind[data-kind='${arguments[0]}']`).click()"

        def chosen() -> bool:
            if "Try again" in self.notice() and self.js("return rill.opening") == 0:
                self.js(click, kind)
            return bool(self.js("return rill.source?.kind") == kind)

        self.js(click, kind)
        self.wait(f"the input {kind}", chosen)

    def brushes(self) -> None:
        """Waits for the tools for painting."""
        self.wait("the brushes", lambda: self.box(".rill-easel")["height"] > 0)

    def play(self, clip: Path) -> None:
        """Takes a video file as input, as a person's choice in the file dialogue would: a clip has its bar at every size."""
        self.js("document.querySelector(`.rill-kind[data-kind='clip']`).click()")
        self.driver.find_element(By.CSS_SELECTOR, ".rill-part-source input[type=file]").send_keys(str(clip))
        self.wait("the clip", lambda: self.js("return rill.source?.kind") == "clip")

    def shown_frames(self) -> int:
        return int(self.js("return rill.view.last"))

    def moves_on(self, frames: int = 4) -> None:
        """Waits until `frames` later pictures have been painted."""
        before = self.shown_frames()
        self.wait("later pictures", lambda: self.shown_frames() >= before + frames)

    def screenshot(self, name: str) -> Path:
        ARTIFACTS.mkdir(exist_ok=True)
        path = ARTIFACTS / name
        path.write_bytes(base64.b64decode(self.driver.execute_cdp_cmd("Page.captureScreenshot", {})["data"]))
        return path

    def barriers(self) -> list[str]:
        """What axe-core calls serious or critical on the page as it is: rule, element, what to do."""
        if not self.js("return Boolean(globalThis.axe)"):
            self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": axe()})
        script = """const done = arguments[arguments.length - 1];
          const grave = ({ impact }) => impact === 'serious' || impact === 'critical';
          const words = ({ id, nodes }) => nodes.map((node) => [id, node.html.slice(0, 160), node.failureSummary].join(' '));
          const found = ({ violations }) => done(violations.filter(grave).flatMap(words));
          axe.run(document, { resultTypes: ['violations'] }).then(found)"""
        return list(self.driver.execute_async_script(script))

    def problems(self) -> list[str]:
        """Error messages in the browser's console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requested(self) -> list[str]:
        """Every address that the page requested over the network since the last call, without its scheme."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                url = message["params"].get("url") or message["params"]["request"]["url"]
                scheme, _, rest = url.partition("://")
                if scheme in ("http", "https", "ws", "wss"):
                    found.append(rest)
        return found

    def requested_hosts(self) -> set[str]:
        return {address.partition("/")[0] for address in self.requested()}
