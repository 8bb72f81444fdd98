"""Looks change places by mouse, finger and keyboard; the number keys follow, and so does the next visit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.chrome import Page
from tests.browser.conftest import Studio
from tests.browser.hands import Hands

pytestmark = pytest.mark.browser

NAMES = "return [...document.querySelectorAll('.rill-grid .rill-tile > :first-child')].map((tile) => tile.dataset.look)"


def names(page: Page) -> list[str]:
    return list(page.js(NAMES))


def tile(page: Page, name: str) -> Any:
    return page.driver.find_element(By.CSS_SELECTOR, f".rill-grid [data-look='{name}']")


def looks(page: Page) -> list[str]:
    """The names of the looks after they have come. The prompt becomes one that is no look."""
    page.wait("looks", lambda: len(names(page)) >= 3)
    page.js("rill.settings.put('prompt', 'as it is')")
    page.wait("the prompt", lambda: page.js("return rill.settings.values.prompt") == "as it is")
    return names(page)


def prompt_of(page: Page) -> str:
    return str(page.js("return rill.settings.values.prompt"))


def key(page: Page, number: int, look: str) -> None:
    page.js("document.activeElement.blur()")
    ActionChains(page.driver).send_keys(str(number)).perform()
    page.wait(f"key {number}: {look}", lambda: prompt_of(page) == look)


def test_a_drag_moves_a_look_and_the_number_keys_and_the_next_visit_follow(page: Page) -> None:
    first, second, third, *rest = looks(page)
    chain = ActionChains(page.driver, duration=30).click_and_hold(tile(page, third))
    chain.move_to_element(tile(page, second)).move_to_element(tile(page, first)).release().perform()
    page.wait("the new order", lambda: names(page) == [third, first, second, *rest])
    assert prompt_of(page) == "as it is", "a drag is no choice"
    key(page, 1, third)
    key(page, 2, first)
    page.open(fresh=False).live()
    page.wait("the order of the last visit", lambda: names(page) == [third, first, second, *rest])
    page.driver.find_element(By.XPATH, "//button[text()='Usual order']").click()
    page.wait("the usual order", lambda: names(page) == [first, second, third, *rest])
    key(page, 1, first)


def test_escape_gives_a_drag_up_and_a_shaky_press_is_a_choice(page: Page) -> None:
    first, second, *rest = looks(page)
    chain = ActionChains(page.driver, duration=30)
    chain.click_and_hold(tile(page, first)).move_to_element(tile(page, second)).send_keys(Keys.ESCAPE).release().perform()
    page.wait("the old order", lambda: names(page) == [first, second, *rest])
    assert prompt_of(page) == "as it is" and page.js("return localStorage.getItem('rill.order')") is None
    chain = ActionChains(page.driver, duration=30)
    chain.click_and_hold(tile(page, second)).move_by_offset(9, 3).release().perform()
    page.wait("the look", lambda: prompt_of(page) == second)
    assert names(page) == [first, second, *rest]


def test_alt_and_an_arrow_move_the_look_that_has_the_focus(page: Page) -> None:
    first, second, third, *rest = looks(page)
    page.js("arguments[0].focus()", tile(page, first))
    hands = ActionChains(page.driver)
    hands.key_down(Keys.ALT).send_keys(Keys.ARROW_RIGHT).send_keys(Keys.ARROW_RIGHT).key_up(Keys.ALT).perform()
    assert names(page) == [second, third, first, *rest]
    assert page.js("return document.activeElement.dataset.look") == first
    said = "return document.querySelector('.rill-part-looks [role=status]').textContent"
    assert f"{first} is number 3 of " in page.js(said)
    ActionChains(page.driver).key_down(Keys.ALT).send_keys(Keys.HOME).key_up(Keys.ALT).perform()
    assert names(page) == [first, second, third, *rest]
    ActionChains(page.driver).key_down(Keys.ALT).send_keys(Keys.ARROW_LEFT).key_up(Keys.ALT).perform()
    assert names(page) == [first, second, third, *rest] and page.js("return rill.link.state") == "live"


def test_kept_looks_have_an_order_of_their_own(page: Page) -> None:
    first, second, *_ = looks(page)
    for name in (first, second):
        star = tile(page, name).find_element(By.XPATH, "following-sibling::button")
        page.js("arguments[0].click()", star)
    page.wait("both kept", lambda: names(page)[:4] == [first, second, first, second])
    page.js("document.querySelector('.rill-grid .rill-tile > :first-child').focus()")
    ActionChains(page.driver).key_down(Keys.ALT).send_keys(Keys.ARROW_RIGHT).key_up(Keys.ALT).perform()
    assert names(page)[:4] == [second, first, first, second]
    key(page, 1, second)


def test_a_broken_store_is_the_usual_order(page: Page) -> None:
    usual = looks(page)
    for broken in ("7", "[]", '{"Looks": 5}', '{"Looks": [null, "gone"]}', "{"):
        page.js("localStorage.setItem('rill.order', arguments[0])", broken)
        page.open(fresh=False).live()
        page.wait(f"the usual looks after {broken}", lambda: names(page) == usual)


@pytest.fixture
def handheld(studio: Studio, phone: webdriver.Chrome) -> Iterator[Page]:
    phone.get_log("browser")
    page = Page(phone, studio.url).open().live()
    yield page
    assert page.problems() == []


def middle(page: Page, name: str) -> tuple[float, float]:
    box = page.box(f".rill-grid [data-look='{name}']")
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_a_finger_drags_after_a_long_press_and_scrolls_without_one(handheld: Page, studio: Studio) -> None:
    page, hands = handheld, Hands(handheld, studio)
    first, second, *rest = looks(page)
    page.js("arguments[0].scrollIntoView({ block: 'center' })", tile(page, first))
    (x, y), (to, at) = middle(page, second), middle(page, first)

    def touch(kind: str, *place: float) -> None:
        points = [{"x": place[0], "y": place[1]}] if place else []
        hands.cdp("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    touch("touchStart", x, y)
    page.wait("the press", lambda: tile(page, second).find_element(By.XPATH, "..").get_attribute("data-dragged"))
    for share in (0.3, 0.6, 1.0):
        touch("touchMove", x + share * (to - x), y + share * (at - y))
    touch("touchEnd")
    page.wait("the new order", lambda: names(page)[:2] == [second, first])
    assert prompt_of(page) == "as it is"
    hands.touch((x, y), (x, y + 40), (x, y + 90))
    assert names(page)[:2] == [second, first] and len(rest) == len(names(page)) - 2
