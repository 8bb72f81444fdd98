"""Signing in with a real browser: by the link that the server prints, and by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from studio.wire.limits import Limits
from tests.browser.chrome import Page
from tests.browser.conftest import Studio

pytestmark = pytest.mark.browser

TOKEN = "a-token-for-the-browser"


@pytest.fixture
def gated() -> Iterator[Studio]:
    running = Studio(Limits(max_sessions=4), token=TOKEN, public=False)
    yield running
    running.close()


@pytest.fixture
def stranger(gated: Studio, desktop: webdriver.Chrome) -> Iterator[Page]:
    """A browser that has no cookie, before and after."""
    desktop.get("about:blank")
    desktop.get_log("browser")
    yield Page(desktop, gated.url)
    desktop.delete_all_cookies()
    desktop.get("about:blank")


def test_the_link_leads_to_the_live_page_and_leaves_no_token_behind(stranger: Page) -> None:
    stranger.driver.get(f"{stranger.url}/rill/login#{TOKEN}")
    stranger.live()
    stranger.moves_on()
    assert TOKEN not in stranger.js("return location.href + document.cookie + document.referrer")
    assert stranger.problems() == []
    stranger.open()  # and it is in from now on
    stranger.live()
    assert stranger.problems() == []


def test_the_form_takes_the_token_by_hand(stranger: Page) -> None:
    stranger.driver.get(stranger.url)
    stranger.wait("the form", lambda: stranger.js("return location.pathname") == "/rill/login")
    assert stranger.problems() == []
    for token, then in (
        ("a wrong one", "return document.querySelector('[role=alert]')?.textContent"),
        (TOKEN, "return Boolean(globalThis.rill)"),
    ):
        field = stranger.driver.find_element(By.NAME, "token")
        assert field.get_attribute("type") == "password"
        field.send_keys(token, Keys.ENTER)
        stranger.wait(f"what comes of {token}", lambda then=then: stranger.js(then))  # type: ignore[misc]
        stranger.driver.get_log("browser")  # the 401 is an error to the browser
    stranger.live()
    assert stranger.problems() == []


def test_the_form_has_no_barriers(stranger: Page) -> None:
    stranger.driver.get(f"{stranger.url}/rill/login")
    assert stranger.barriers() == []
