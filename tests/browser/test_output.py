"""An output for OBS or a projector: its address stays good over reloads and restarts, and only pictures are ever seen there."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from selenium import webdriver

from studio.cli.run_server import websocket_options
from studio.visit.config import ServerConfig
from studio.web.server import create_app
from studio.wire.limits import Limits
from tests.browser.chrome import Page
from tests.browser.conftest import SPEC, Studio
from tests.browser.page_actions import press, shown
from tests.studio.fake import FakePipeline

pytestmark = pytest.mark.browser


@pytest.fixture
def own(desktop: webdriver.Chrome) -> Iterator[tuple[Studio, Page]]:
    studio = Studio(Limits())
    desktop.get_log("browser")
    yield studio, Page(desktop, studio.relayed_url).open().live()
    desktop.get("about:blank")
    studio.close()


def restart(studio: Studio) -> None:
    """Another server process's worth of memory behind the same address."""
    studio.relay.close()
    studio._server.should_exit = True
    studio._thread.join(20)
    studio._socket.close()
    app = create_app(ServerConfig(SPEC, Limits()), FakePipeline(SPEC, step_s=0.01).rebuilt)  # type: ignore[arg-type]
    studio.hub = app.state.hub
    studio._socket = socket.create_server(("127.0.0.1", 0))
    studio._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", **websocket_options(Limits())))  # type: ignore[arg-type]
    studio._thread = threading.Thread(target=studio._server.run, args=([studio._socket],), daemon=True)
    studio._thread.start()
    while not studio._server.started:
        time.sleep(0.02)
    studio.relay._target = studio._socket.getsockname()[1]
    studio.relay.reopen()


def test_an_output_goes_on_after_a_reload_and_a_restart_and_shows_nothing_but_pictures(
    own: tuple[Studio, Page], visitor: webdriver.Chrome
) -> None:
    studio, page = own
    page.choose("sample")
    page.js("rill.settings.put('prompt', 'red')")
    press(page, "Output for OBS or projector")
    address = "return document.querySelector('.rill-view input')?.value"
    clean = page.wait("its address", lambda: page.js(address))
    output = Page(visitor, studio.relayed_url)
    visitor.get(clean)

    def tinted(channel: int) -> bool:
        colour = shown(output)[:3]
        return colour[channel] == max(colour) and sorted(colour)[2] > sorted(colour)[1] + 60

    def nothing_else() -> bool:
        return bool(
            output.js("return document.body.innerText.trim() === '' && document.body.childElementCount === 1 + scripts()")
        )

    output.js("globalThis.scripts = () => document.querySelectorAll('body > script').length")
    try:
        output.wait("red", lambda: tinted(0))
        page.js("rill.setPaused(true)")
        page.wait("a pause", lambda: page.status() == "Paused")
        assert tinted(0) and nothing_else()
        page.driver.get("about:blank")  # the session ends
        page.wait("a server without visitors", lambda: not studio.hub.seats.connected)
        assert tinted(0) and nothing_else(), "the last picture is held"
        page.open(fresh=False).live()
        page.js("rill.settings.put('prompt', 'green')")
        output.wait("green, at the same address", lambda: tinted(1))
        restart(studio)
        assert tinted(1) and nothing_else(), "while the server is away, too"
        page.live()
        page.js("rill.settings.put('prompt', 'blue')")
        output.wait("blue, after the restart", lambda: tinted(2))
        assert nothing_else()
        press(page, "Output for OBS or projector")
        assert page.wait("the address", lambda: page.js(address)) == clean
    finally:
        visitor.get("about:blank")
        visitor.get_log("browser")
        page.driver.get_log("browser")
