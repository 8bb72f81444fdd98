"""Typing into the page, moving its controls, and the colour of its picture."""

from __future__ import annotations

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from studio.web.page.controls import element_id
from tests.browser.chrome import Page


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
