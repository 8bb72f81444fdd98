"""Actions of several test files: typing, controls, downloads, the colour of the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def click(page: Page, selector: str) -> None:
    page.driver.find_element(By.CSS_SELECTOR, selector).click()


def value(page: Page, key: str) -> Any:
    return page.js("return rill.settings.values[arguments[0]]", key)


def downloads(page: Page, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})


def downloaded(page: Page, folder: Path, pattern: str) -> Path:
    return Path(page.wait(f"the file {pattern}", lambda: next(iter(folder.glob(pattern)), None)))


def press(page: Page, words: str) -> None:
    """Click the button with this text in the panel for keeping."""
    page.driver.find_element(By.XPATH, f"//div[contains(@class, 'rill-part-keep')]//button[text()='{words}']").click()


def shown(page: Page) -> list[int]:
    """The mean colour of an output's clean page."""
    script = """const picture = document.querySelector('canvas');
      const context = new OffscreenCanvas(1, 1).getContext('2d');
      context.drawImage(picture, 0, 0, 1, 1);
      return [...context.getImageData(0, 0, 1, 1).data]"""
    return list(page.js(script))
