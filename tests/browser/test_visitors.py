"""Visitors who wait: what they see of the one who is on, and how long it takes; sharing, and the code for a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By

from studio.wire.limits import Limits
from studio.wire.origin import AddressRule
from tests.browser.chrome import Page
from tests.browser.conftest import Studio
from tests.browser.page_actions import downloaded, downloads

pytestmark = pytest.mark.browser

WATCHED = "const [it] = document.querySelectorAll('.rill-others'); return it.checkVisibility() && it.naturalWidth > 0"


@pytest.fixture
def busy(visitor: webdriver.Chrome) -> Iterator[Studio]:
    """A studio with one place."""
    studio = Studio(Limits(max_sessions=1, turn_s=600.0), watch_waiting=True)
    yield studio
    visitor.get("about:blank")
    studio.close()


COVERED = """const words = document.createRange();
  words.selectNodeContents(document.querySelector('.rill-veil'));
  const box = (at) => document.querySelector(at).getBoundingClientRect();
  const { left, top, right, bottom, height } = words.getBoundingClientRect();
  const meets = (other) => other.left < right && other.right > left && other.top < bottom && other.bottom > top;
  return [height > 0, ['.rill-tools', '#rill-prompts'].filter((at) => meets(box(at)))]"""


def press(page: Page, words: str) -> None:
    page.js("arguments[0].click()", page.driver.find_element(By.XPATH, f"//button[text()='{words}']"))


def test_a_waiting_visitor_sees_the_present_picture_and_the_time_left(
    busy: Studio, desktop: webdriver.Chrome, visitor: webdriver.Chrome
) -> None:
    on = Page(desktop, busy.url).open().live()
    waiting = Page(visitor, busy.url).open()
    waiting.wait("the place in the line", lambda: "You're next: about" in waiting.status())
    waiting.wait("the picture of who is on", lambda: waiting.js(WATCHED))
    on.wait("the word that others see it", lambda: "see your picture" in on.status())
    assert waiting.js(COVERED) == [True, []], "the words about the wait"
    waiting.js("document.activeElement?.blur()")
    ActionChains(visitor).send_keys("f").perform()
    waiting.wait("full screen", lambda: waiting.js("return document.fullscreenElement !== null"))
    assert waiting.js(COVERED) == [True, []], "the words about the wait, in full screen"
    desktop.get("about:blank")
    waiting.live()
    assert not waiting.js(WATCHED)
    assert waiting.problems() == []


def test_a_picture_is_shared_with_its_link(page: Page) -> None:
    """Into the clipboard where it is open: a text field takes the link."""
    page.driver.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
    page.js("rill.settings.put('prompt', 'red')")
    page.wait("the prompt", lambda: page.js("return rill.settings.values.prompt") == "red")
    press(page, "Share picture")
    page.wait("the word", lambda: "copied" in page.notice() or "Saved" in page.notice())
    assert "copied" in page.notice(), page.notice()
    kinds = """const done = arguments[arguments.length - 1];
      navigator.clipboard.read().then(async ([item]) => done([item.types, await (await item.getType('text/plain')).text()]))"""
    types, link = page.driver.execute_async_script(kinds)
    assert sorted(types) == ["image/png", "text/plain"] and link.endswith("#prompt=red")


def test_a_phone_shares_by_its_own_dialogue(page: Page) -> None:
    page.js("navigator.canShare = () => true; navigator.share = async (data) => { globalThis.shared = data }")
    press(page, "Share picture")
    page.wait("the dialogue", lambda: page.js("return Boolean(globalThis.shared)"))
    size = "return [shared.files[0].type, shared.files[0].size > 100, shared.url === rill.address]"
    assert page.js(size) == ["image/png", True, True]


def test_without_a_clipboard_the_picture_is_saved(page: Page, tmp_path: Path) -> None:
    folder = tmp_path / "downloads"
    downloads(page, folder)
    page.js("navigator.clipboard.write = () => Promise.reject(new DOMException('', 'NotAllowedError'))")
    press(page, "Share picture")
    assert downloaded(page, folder, "rill-*.png").stat().st_size > 100
    page.wait("the word", lambda: "its link is in the address bar" in page.notice())


def test_the_code_for_a_phone_is_of_the_address_in_the_network_only(desktop: webdriver.Chrome, page: Page) -> None:
    press(page, "Join by phone")
    assert "this computer only" in page.js("return document.querySelector('#rill-keep').textContent")
    assert page.js("return document.querySelector('.rill-qr')") is None
    studio = Studio(Limits(), rule=AddressRule(("rill.localhost",)))
    try:  # Chromium takes every name below localhost for this machine
        named = Page(desktop, studio.url.replace("127.0.0.1", "rill.localhost")).open().live()
        press(named, "Join by phone")
        named.wait("the code", lambda: named.js("return document.querySelector('.rill-qr')?.naturalWidth > 0"))
    finally:
        desktop.get("about:blank")
        studio.close()
