"""A real server in this process with the deterministic test engine, a wire that can be cut, and browsers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from selenium import webdriver

from pipelines import StreamSpec
from studio.cli.run_server import websocket_options
from studio.visit.config import ServerConfig
from studio.visit.hub import Hub
from studio.web.server import create_app
from studio.wire.limits import Limits
from tests.browser import chrome
from tests.browser.chrome import Page
from tests.browser.relay import Relay
from tests.studio.fake import FakePipeline

SPEC = StreamSpec(width=256, height=256)
STEP_S = 0.04
"""Seconds per frame of the test engine. A faster one would take the processor from the pages that load."""

FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note for the fixtures whether the test has failed."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


class Studio:
    """The running studio. `relayed_url` leads through a relay that a test can cut."""

    def __init__(
        self, limits: Limits, spec: StreamSpec = SPEC, factory: Callable[[StreamSpec], Any] | None = None, **config: Any
    ) -> None:
        self.pipeline = FakePipeline(SPEC, STEP_S)
        app = create_app(ServerConfig(spec, limits, **config), factory or self.pipeline.rebuilt)  # type: ignore[arg-type]
        self.hub: Hub = app.state.hub
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", **websocket_options(limits)))  # type: ignore[arg-type]
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.02)
        port = self._socket.getsockname()[1]
        self.relay = Relay(port)
        self.url, self.relayed_url = (f"http://127.0.0.1:{number}" for number in (port, self.relay.port))

    def close(self) -> None:
        self.relay.close()
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()


@pytest.fixture(scope="package")
def studio() -> Iterator[Studio]:
    chrome.binaries()
    running = Studio(Limits(max_sessions=4))
    yield running
    running.close()


@pytest.fixture(scope="package")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The camera clip of a colour: "red" or "grey"."""
    folder = tmp_path_factory.mktemp("camera")
    colours = {"red": (20, 20, 210), "grey": (110, 110, 110)}
    return lambda name: chrome.write_camera_clip(folder / f"{name}.mjpeg", colours[name])


@pytest.fixture(scope="package")
def desktop(studio: Studio, clips: Callable[[str], Path]) -> Iterator[webdriver.Chrome]:
    """One browser for all desktop tests; its camera is the grey clip."""
    driver = chrome.start(*chrome.camera(clips("grey")), "--auto-select-desktop-capture-source=Entire screen")
    yield driver
    driver.quit()


@pytest.fixture(scope="package")
def second_browser(studio: Studio, clips: Callable[[str], Path]) -> Iterator[webdriver.Chrome]:
    driver = chrome.start(*chrome.camera(clips("red")), size=(800, 700))
    yield driver
    driver.quit()


@pytest.fixture
def visitor(second_browser: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """Another person's browser, for tests with two; its camera is the red clip. It leaves its page after the test."""
    yield second_browser
    second_browser.get("about:blank")


@pytest.fixture(scope="package")
def phone_browser(studio: Studio) -> Iterator[webdriver.Chrome]:
    driver = chrome.start(size=(360, 780), phone=True)
    yield driver
    driver.quit()


@pytest.fixture
def phone(phone_browser: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """A phone of 360 × 780. It leaves its page after the test."""
    yield phone_browser
    phone_browser.get("about:blank")


@pytest.fixture
def address(studio: Studio) -> str:
    """The URL that the fixture `page` opens."""
    return studio.url


@pytest.fixture
def page(address: str, studio: Studio, desktop: webdriver.Chrome) -> Iterator[Page]:
    """The page of the only visitor, live on its sample clip or camera; afterwards the console must be clean."""
    desktop.get("about:blank")
    opened = Page(desktop, address)
    opened.wait("a studio that the tests before have left", lambda: studio.hub.seats.connected == 0)
    desktop.get_log("browser")
    opened.open().live()
    yield opened
    assert opened.problems() == []


@pytest.fixture
def open_page(request: pytest.FixtureRequest, studio: Studio, desktop: webdriver.Chrome) -> Iterator[Page]:
    """The live page of the test before, if that test used this fixture too, else a new one. For tests that need no first visit.

    Afterwards the settings are the defaults, the sample plays, and the console must be clean. A test that changes more restores
    it, or sets `reusable` of the page to False.
    """
    opened = Page(desktop, studio.url)
    if not opened.js("return globalThis.reusable === true && rill.link.state === 'live'"):
        desktop.get("about:blank")
        desktop.get_log("browser")
        opened.open().live()
    opened.js("globalThis.reusable = false")
    yield opened
    assert opened.problems() == []
    if opened.reusable and not request.node.stash[FAILED]:
        opened.js("document.activeElement?.blur(); for (const brief of [true, false]) rill.notice('', brief); rill.reset()")
        if opened.js("return rill.source.kind") != "sample":
            opened.choose("sample")
        opened.at_rest()
        opened.js("globalThis.reusable = true")
