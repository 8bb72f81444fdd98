"""Below a reverse proxy's sub-path: every file of the page is found there, and the stream runs."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator

import pytest
from selenium import webdriver

from tests.browser.chrome import Page
from tests.browser.conftest import Studio

pytestmark = pytest.mark.browser

PREFIX = b"/art/rill"


class StrippingProxy:
    """Passes requests below PREFIX on without it, as nginx's `proxy_pass http://host/;` does; everything else is 404."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.outside: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                browser, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(browser,), daemon=True).start()

    def _serve(self, browser: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (data := browser.recv(65536)):
            head += data
        if not (found := re.match(rb"(\w+) (\S+)", head)):
            return browser.close()
        path = found[2]
        if not path.startswith(PREFIX + b"/"):
            self.outside.append(path)
            browser.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return browser.close()
        websocket = b"upgrade: websocket" in head.lower()
        head = head.replace(path, path.removeprefix(PREFIX), 1)
        if not websocket:  # one request a connection
            head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as server:
            server.sendall(head)
            threading.Thread(target=self._pass, args=(browser, server), daemon=True).start()
            self._pass(server, browser)
        return browser.close()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def below(studio: Studio) -> Iterator[StrippingProxy]:
    proxy = StrippingProxy(studio._socket.getsockname()[1])
    yield proxy
    proxy.close()


def test_everything_is_found_below_a_sub_path(below: StrippingProxy, desktop: webdriver.Chrome) -> None:
    desktop.get("about:blank")
    desktop.get_log("browser")
    page = Page(desktop, f"http://127.0.0.1:{below.port}{PREFIX.decode()}").open().live()
    page.moves_on()
    sheets = page.js("return [...document.styleSheets].map(({ href }) => href ?? '')")
    assert any(PREFIX.decode() + "/theme.css" in href for href in sheets), sheets
    icon = page.js("return document.querySelector('link[rel~=icon]').href")
    assert PREFIX.decode() in icon
    assert below.outside == [] and page.problems() == []
    desktop.get("about:blank")
