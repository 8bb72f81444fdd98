"""Typing into the page, moving its controls, and the colour of its picture."""

from __future__ import annotations

from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from studio.web.page.controls import element_id
from tests.browser.chrome import Page


def press_tool(page: Page, label: str = "") -> None:
    """Click the first button of the output's toolbar whose label begins with `label`.

    The toolbar hides after three seconds without a move of the pointer and takes no clicks then. So the pointer moves over the
    picture first, in the same chain of actions.
    """
    button = page.driver.find_element(
        By.CSS_SELECTOR, f".rill-tools button[aria-label^='{label}']" if label else ".rill-tools button"
    )
    picture = page.driver.find_element(By.ID, "rill-output")
    chain = ActionChains(page.driver, duration=20).move_to_element_with_offset(picture, 7, 5).move_to_element(picture)
    chain.move_to_element(button).click().perform()


def type_prompt(page: Page, text: str) -> None:
    box = page.driver.find_element(By.CSS_SELECTOR, "#rill-prompt textarea, #rill-prompt input")
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(text)


def is_tinted(page: Page, channel: int) -> bool:
    mean = page.mean()
    others = [mean[index] for index in range(3) if index != channel]
    return bool(mean[channel] > 90 and mean[channel] > max(others) + 60)


def move(page: Page, key: str, value: object, kind: str) -> object:
    """Moves the control of a setting as a hand would; what it shows then."""
    at = "#" + element_id(key)
    if kind in ("flag", "choice"):
        item = page.driver.find_element(By.CSS_SELECTOR, f"{at} input" + f"[value='{value}']" * (kind == "choice"))
        if item.is_selected() != (kind == "choice" or value):
            page.js("arguments[0].click()", item)
        return item.is_selected()
    box = page.driver.find_element(
        By.CSS_SELECTOR, f"{at} " + (":is(textarea, input)" if kind == "text" else "input[type=number]")
    )
    page.js("arguments[0].scrollIntoView({ block: 'center' })", box)
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(str(value) + Keys.TAB)
    return box.get_attribute("value")
