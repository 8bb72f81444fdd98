"""The page for every visitor: phones, keyboards, screen readers, its own style over Gradio's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.chrome import Page
from tests.browser.conftest import Studio

pytestmark = pytest.mark.browser


def test_the_pages_own_style_has_the_last_word_over_gradios(page: Page) -> None:
    page.choose("camera")
    page.wait("the camera in its corner", lambda: page.box(".rill-inset video")["width"] > 0)
    inset, video = page.box(".rill-inset"), page.box(".rill-inset video")
    assert all(abs(inset[side] - video[side]) <= 2 for side in ("x", "y", "width", "height")), (inset, video)
    block = "return getComputedStyle(document.querySelector('#rill-strength'))"
    assert page.js(f"{block}.padding") == "0px"
    title = "return getComputedStyle(document.querySelector('#rill-keep h2')).textTransform"
    assert page.js(title) == "none"


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_fits_a_phone(studio: Studio, phone: webdriver.Chrome, theme: str) -> None:
    phone.get_log("browser")
    page = Page(phone, studio.url).open(theme).live()
    page.moves_on()
    page.screenshot(f"phone-{theme}.png")
    assert page.js("return document.documentElement.scrollWidth") <= 360
    canvas = page.box("#rill-output")
    assert canvas["width"] >= 300 and canvas["y"] < 200
    prompt = page.box("#rill-prompt")
    assert canvas["y"] + canvas["height"] <= prompt["y"], "the order of use: picture, prompt"
    assert page.problems() == []


def test_everything_has_a_name_and_a_visible_focus(page: Page, desktop: webdriver.Chrome) -> None:
    nameless = page.js(
        """return [...document.querySelectorAll('button, input, select, textarea, a[href]')]
          .filter((item) => item.offsetParent !== null)
          .filter((item) => !(item.labels?.length || item.getAttribute('aria-label') || item.title || item.textContent.trim()))
          .map((item) => item.outerHTML.slice(0, 160))"""
    )
    assert nameless == []
    page.js("document.activeElement?.blur()")
    webdriver.ActionChains(desktop).send_keys("/").perform()
    assert page.js("return document.activeElement.closest('#rill-prompt') !== null")
    webdriver.ActionChains(desktop).send_keys(Keys.TAB).perform()
    assert page.js("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize(("theme", "size"), [("dark", (1440, 900)), ("light", (1440, 900)), ("light", (360, 780))])
def test_axe_finds_no_serious_barrier(studio: Studio, desktop: webdriver.Chrome, theme: str, size: tuple[int, int]) -> None:
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    desktop.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page = Page(desktop, studio.url).open(theme).live()
        page.js("for (const key of ['gate.enabled', 'cache.enabled', 'probe.enabled']) rill.settings.put(key, true)")
        page.js("rill.choose('paint')")
        page.brushes()
        assert page.barriers() == []
        page.engine()
        assert page.barriers() == []
        page.js("document.querySelector('.rill-tools button[aria-label^=Keyboard]').click()")
        page.wait("the sheet", lambda: page.driver.find_elements(By.CSS_SELECTOR, ".rill-sheet[open]"))
        assert page.barriers() == []
    finally:
        desktop.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def luminance(rgb: NDArray[np.uint8]) -> float:
    """Relative luminance of WCAG 2.2, 0..1."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_thumb_of_a_slider_is_seen(studio: Studio, desktop: webdriver.Chrome, theme: str) -> None:
    """WCAG 2.2, 1.4.11: at least 3:1 between its middle and the page under it, at either end of the slider."""
    page = Page(desktop, studio.url).open(theme).live()
    for value, side in ((0, 0.0), (1, 1.0)):
        page.js("rill.settings.put('strength', arguments[0])", value)
        page.at_rest()
        box = page.box("#rill-strength input[type=range]")
        shot = cv2.imread(str(page.screenshot(f"slider-{theme}.png")))
        assert shot is not None
        y, x = round(box["y"] + box["height"] / 2), round(box["x"] + 8 + side * (box["width"] - 16))
        bright, dark = sorted((luminance(shot[y, x, ::-1]), luminance(shot[y + 14, x, ::-1])), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 3, (theme, value, shot[y, x], shot[y + 14, x])
