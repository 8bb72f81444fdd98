"""What the page fetches before its first picture, what it fetches later, and what it does when that does not come."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from studio.web.files import compressed
from studio.web.server import ASSETS
from tests.browser import chrome
from tests.browser.chrome import Page
from tests.browser.conftest import Studio

pytestmark = pytest.mark.browser

CLIENT = ASSETS / "client"
FIRST_SOURCE, FIRST_GZIPPED, FIRST_BROTLI = 152_000, 56_600, 48_200
LATER = {
    "engine.css",
    "easel.css",
    "afterwards.css",
    *(f"flow/{name}.js" for name in ("recorder", "layer", "promptfile", "stills")),
}
LATER |= {
    f"parts/{name}.js" for name in ("engine", "easel", "exchange", "others", "pair", "chart", "afterwards", "help", "wordlist")
}
LATER |= {f"pure/{name}.js" for name in ("trial", "hold", "files", "regions", "vocabulary", "faults", "shared")}

REMARKS = {"parts/remarks.js", "pure/remarks.js"}
"""The test model knows no word of the first prompt, and the page remarks on it at once. A model that knows it needs none."""


def fetched(page: Page) -> set[str]:
    """Paths below assets/client that the page has requested since the last call."""
    paths = [address.partition("/rill/client/")[2] for address in page.requested()]
    return {path.partition("?")[0] for path in paths if path}


def size(names: set[str], coding: str) -> int:
    return sum(len(compressed(str(CLIENT / name), (CLIENT / name).stat().st_mtime_ns, coding)) for name in names)


@pytest.fixture
def stranger() -> Iterator[webdriver.Chrome]:
    """A browser without a cache, whose requests are listed."""
    driver = chrome.start(listen=True)
    yield driver
    driver.quit()


def test_the_first_load_is_small_and_the_rest_comes_with_its_use(studio: Studio, stranger: webdriver.Chrome) -> None:
    page = Page(stranger, studio.url)
    hold = "Object.defineProperty(globalThis, 'createImageBitmap', { value: () => new Promise(() => null), configurable: true })"
    held = stranger.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": hold})  # no picture comes on the canvas
    try:
        page.open().wait("answers", lambda: page.js("return (globalThis.rill?.stats.answers.length ?? 0) > 3"))
    finally:
        stranger.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", held)
    first = fetched(page) | {"flow/encoder-worker.js", "flow/ticker-worker.js"}  # a worker's script is not in the page's log
    assert first >= REMARKS
    first -= REMARKS
    assert {"studio.js", "parts/stage.js", "studio.css", "calm.js"} <= first
    assert not first & LATER, sorted(first & LATER)
    source = sum((CLIENT / name).stat().st_size for name in first)
    assert 100_000 < source <= FIRST_SOURCE, source
    assert size(first, "gzip") <= FIRST_GZIPPED, size(first, "gzip")
    assert size(first, "br") <= FIRST_BROTLI, size(first, "br")
    page.open().live().engine()
    page.js("document.querySelector(`.rill-tools button[aria-label^='Paint']`).click()")
    page.brushes()
    page.js("return rill.exchange(() => true)")
    press = "document.querySelector(arguments[0]).click()"
    for label in ("Wipe between input", "Wipe between full", "Keyboard"):
        page.js(press, f".rill-tools button[aria-label^='{label}']")
    page.js(press, ".rill-part-keep button[title^='A code']")
    page.js(press, ".rill-part-ask button[aria-label^='Earlier']")
    seen = first | fetched(page)
    page.wait("everything", lambda: seen.update(fetched(page)) or seen >= LATER)


def test_what_cannot_be_fetched_is_said_and_works_later(studio: Studio, desktop: webdriver.Chrome) -> None:
    page = Page(desktop, studio.relayed_url).open().live()
    with studio.relay.away():
        desktop.find_element(By.CSS_SELECTOR, ".rill-toggle").click()
        page.wait("the words", lambda: "could not be loaded" in page.notice())
        assert page.js("return document.body.dataset.engine") is None
    page.wait("the connection", lambda: page.js("return rill.link.state") == "live")
    desktop.find_element(By.CSS_SELECTOR, ".rill-toggle").click()
    page.wait("the drawer", lambda: page.js("return document.activeElement.closest('#rill-engine') !== null"))
    assert desktop.find_element(By.CSS_SELECTOR, ".rill-part-spec select").is_displayed()
    desktop.get_log("browser")  # the failed requests are in its console
