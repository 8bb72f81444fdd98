"""Connections in a real browser: cut, left, waiting for a place, refused."""

from __future__ import annotations

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By

from studio.wire.limits import Limits
from tests.browser.chrome import Page
from tests.browser.conftest import Studio
from tests.browser.page_actions import is_tinted, type_prompt

pytestmark = pytest.mark.browser


@pytest.fixture
def address(studio: Studio) -> str:
    return studio.relayed_url


def test_survives_a_cut_connection_with_its_session(page: Page, studio: Studio) -> None:
    type_prompt(page, "blue")
    page.wait("a blue picture", lambda: is_tinted(page, 2))
    session, resume = page.js("return [rill.welcome.session, rill.welcome.resume]")
    states = "globalThis.seen = []; rill.addEventListener('link', () => seen.push(rill.link.state))"
    page.js(states)
    studio.relay.cut()
    page.wait("a new connection", lambda: page.js("return rill.welcome.resume") != resume)
    assert "lost" in page.js("return seen")
    assert page.js("return [rill.welcome.session, rill.welcome.resumed]") == [session, True]
    page.moves_on()
    assert page.status().startswith("Live")
    assert is_tinted(page, 2)
    page.driver.get_log("browser")  # the cut itself may be noted there


def test_a_lost_connection_is_taken_up_again_by_hand_in_full_screen(page: Page, studio: Studio) -> None:
    """The top bar is not there: the words over the picture have the button."""
    page.js("document.activeElement?.blur()")
    ActionChains(page.driver).send_keys("f").perform()
    page.wait("full screen", lambda: page.js("return document.fullscreenElement !== null"))
    button = page.driver.find_element(By.CSS_SELECTOR, ".rill-veil button")
    assert not button.is_displayed()
    count = """const connect = rill.connection.connect.bind(rill.connection);
      globalThis.byHand = 0;
      rill.connection.connect = () => { if (globalThis.event?.type === 'click') byHand += 1; connect() }"""
    page.js(count)
    with studio.relay.away():
        page.wait("the button", button.is_displayed)
        button.click()
        assert page.js("return byHand") == 1
    page.wait("the stream", lambda: page.js("return rill.link.state") == "live")
    assert not button.is_displayed() and page.js("return document.fullscreenElement !== null")
    page.driver.get_log("browser")  # the failed attempts are in its console


def test_a_page_that_was_left_frees_its_place_and_continues_after_a_return(page: Page, studio: Studio) -> None:
    session = page.js("return rill.welcome.session")
    page.driver.get(f"{page.url}/healthz")
    page.wait("no visitor", lambda: studio.hub.seats.connected == 0)
    page.driver.back()
    page.live()
    page.moves_on()
    assert page.status().startswith("Live")
    if page.js("return rill.welcome.resumed"):  # the browser kept the page
        assert page.js("return rill.welcome.session") == session


def test_a_full_server_shows_the_place_in_line_and_lets_in_when_one_is_free(
    desktop: webdriver.Chrome, visitor: webdriver.Chrome
) -> None:
    small = Studio(Limits(max_sessions=1))
    try:
        first = Page(desktop, small.url).open().live()
        second = Page(visitor, small.url).open()
        second.wait("plain words", lambda: "You're next" in second.status())
        assert not second.js("return rill.seenPicture")
        first.wait("a warning", lambda: "your turn ends in" in first.status())
        first.moves_on()
        first.driver.get("about:blank")  # the page sends bye, its place is free at once
        second.live()
    finally:
        visitor.get("about:blank")
        small.close()


def test_turns_change_while_others_wait(desktop: webdriver.Chrome, visitor: webdriver.Chrome) -> None:
    small = Studio(Limits(max_sessions=1, turn_s=1.0, warning_s=1.5))
    try:
        first = Page(desktop, small.url).open().live()
        first.js("rill.settings.put('prompt', 'red')")
        first.wait("the prompt", lambda: first.js("return rill.settings.values.prompt") == "red")
        second = Page(visitor, small.url).open().live()
        first.wait("the first one waits now", lambda: "You're next" in first.status())
        first.live()  # its next turn, with what it had set
        assert first.js("return rill.settings.values.prompt") == "red"
        second.wait("the second one waits again", lambda: "You're next" in second.status())
    finally:
        visitor.get("about:blank")
        small.close()


def test_an_absent_server_and_a_refusing_one_are_distinguished(page: Page, studio: Studio) -> None:
    """The same broken handshake, two causes: the page checks /healthz before it shows one."""
    with studio.relay.away():
        page.wait("words", lambda: "does not answer" in page.status() or "was lost" in page.status())
        page.wait("the words about the server", lambda: "does not answer" in page.status())
    page.js("rill.connection.url = rill.connection.url.replace('/stream', '/refused'); rill.connection.connect()")
    page.wait("words about the origin", lambda: "refuses a page from" in page.status())
    assert "--trusted-proxy" in page.status()
    page.js("rill.connection.url = rill.connection.url.replace('/refused', '/stream'); rill.connection.connect()")
    page.moves_on()
    page.driver.get_log("browser")  # failed handshakes are errors to the browser
