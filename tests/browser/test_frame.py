"""The frame of the page: two depths, idle tools, drags, looks, kept settings. test_sizes.py has what depends on the window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from pipelines import FIELDS
from studio.web.page.controls import element_id
from studio.wire.limits import Limits
from tests.browser.chrome import Page
from tests.browser.conftest import Studio
from tests.browser.page_actions import press_tool, value
from tests.browser.test_sizes import BESIDE, CONTROLS

pytestmark = pytest.mark.browser

LABELS_UNDER = """const over = document.querySelector(arguments[0]);
  if (!over) return [0, []];
  const { left, top, right, bottom } = over.getBoundingClientRect();
  const centre = (label) => {
    const box = label.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  };
  const under = ([x, y]) => x > left && x < right && y > top && y < bottom;
  const covered = [...document.querySelectorAll('[data-testid="block-info"]')].filter((label) => under(centre(label)));
  const seen = covered.filter((label) => !over.contains(document.elementFromPoint(...centre(label))));
  return [covered.length, seen.map((label) => label.textContent.trim())]"""


LOWEST = """const lowest = (items) => Math.max(...[...items].map((item) => item.getBoundingClientRect().bottom));
  const looks = document.querySelector('#rill-looks').clientHeight;
  return [lowest(document.querySelectorAll('#rill-keep .rill-plain')), looks, innerHeight]"""


def test_what_is_saved_and_shared_is_in_the_first_window_of_a_laptop(page: Page) -> None:
    """With the bar of a clip and with the camera's line; the looks keep enough height to be seen."""
    for kind in ("sample", "camera"):
        page.choose(kind)
        for width, height in ((1280, 720), (1366, 768), (1440, 900), (1920, 1080)):
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            try:
                bottom, looks, window = page.js(LOWEST)
            finally:
                page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            assert bottom <= window and looks >= 200, (kind, width, height, bottom, looks)


def test_the_first_view_has_few_controls_and_the_drawer_the_rest(page: Page) -> None:
    page.choose("sample")
    page.js("document.querySelector('#rill-looks').hidden = true")  # tiles are content
    first = page.js(CONTROLS)
    assert 20 <= len(first) <= 50, len(first)
    words = page.js("return document.querySelector('.rill-line').textContent")
    assert "camera" in words and page.driver.find_element(By.CSS_SELECTOR, ".rill-line").is_displayed()
    assert first[0].text == "Use my camera", "the keyboard comes to it first"
    engine = page.driver.find_element(By.ID, "rill-engine")
    assert not engine.is_displayed()
    page.driver.find_element(By.CSS_SELECTOR, ".rill-toggle").click()
    page.wait("the drawer", lambda: page.js("return document.activeElement.closest('#rill-engine') !== null"))
    assert engine.is_displayed()
    rooms = "#rill-engine, #rill-mix, #rill-second, #rill-prompts, #rill-looks"
    here = f"return document.querySelector(arguments[0])?.closest('{rooms}')?.id ?? ''"
    assert all(page.js(here, "#" + element_id(key)) for key in FIELDS)
    ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
    assert not engine.is_displayed() and page.js("return document.activeElement.matches('.rill-toggle')")
    page.driver.find_element(By.CSS_SELECTOR, ".rill-details").click()
    page.wait("the charts", lambda: page.driver.find_element(By.CSS_SELECTOR, ".rill-part-strip").is_displayed())


def test_no_label_of_a_control_lies_above_a_list_or_the_head_of_the_drawer(page: Page) -> None:
    page.driver.find_element(By.CSS_SELECTOR, ".rill-part-ask button[aria-label^='Styles']").click()
    page.wait("the list over a control", lambda: page.js(LABELS_UNDER, ".rill-menu:not([hidden])")[0] >= 1)
    assert page.js(LABELS_UNDER, ".rill-menu:not([hidden])")[1] == []
    page.engine()
    page.wait("the drawer", lambda: page.box(".rill-drawerhead")["height"] > 0)
    scroll = """const [label, head] = [...arguments].map((at) => document.querySelector(at).getBoundingClientRect());
      const by = label.top + label.height / 2 - head.top - head.height / 2;
      document.querySelector('#rill-engine').scrollBy({ top: by, behavior: 'instant' })"""
    page.js(scroll, '#rill-steps [data-testid="block-info"]', ".rill-drawerhead")
    page.wait("a label under the head", lambda: page.js(LABELS_UNDER, ".rill-drawerhead")[0] == 1)
    assert page.js(LABELS_UNDER, ".rill-drawerhead")[1] == []


def test_two_plain_figures_stand_on_top(page: Page) -> None:
    page.choose("camera")
    plain = "return document.querySelector('.rill-plainly').textContent"
    page.wait(
        "figures",
        lambda: page.js("return /^[1-9]\\d* fps · \\d+ ms delay$/.test(document.querySelector('.rill-plainly').textContent)"),
    )
    assert "p50" not in page.js(plain)


def idle(page: Page) -> list[str]:
    """The opacity of tools, prompt and inset."""
    of = "['.rill-tools', '#rill-prompts', '.rill-inset'].map((at) => getComputedStyle(document.querySelector(at)).opacity)"
    return list(page.js(f"return {of}"))


def test_the_toolbar_hides_without_pointer_moves_also_in_full_screen(page: Page) -> None:
    picture = page.driver.find_element(By.ID, "rill-output")
    ActionChains(page.driver).move_to_element(picture).perform()
    page.wait("tools", lambda: idle(page)[0] == "1")
    page.wait("no tools", lambda: idle(page) == ["0", "1", "1"])
    page.js("document.activeElement.blur()")
    ActionChains(page.driver).move_to_element_with_offset(picture, 5, 5).perform()
    page.wait("tools", lambda: idle(page)[0] == "1")
    press_tool(page, "Full screen")
    page.wait("full screen", lambda: page.js("return document.fullscreenElement !== null"))
    page.js("document.activeElement.blur()")
    page.wait("the picture alone", lambda: idle(page) == ["0"] * 3)
    assert page.js("return getComputedStyle(document.querySelector('#rill-left')).cursor") == "none"
    box, inner = page.box(".rill-frame"), page.js("return [innerWidth, innerHeight]")
    assert [box["width"], box["height"]] == inner
    ActionChains(page.driver).move_to_element_with_offset(picture, 20, 10).perform()
    page.wait("all again", lambda: idle(page) == ["1"] * 3)
    ActionChains(page.driver).send_keys("f").perform()
    page.wait("the window", lambda: page.js("return document.fullscreenElement === null"))


def test_a_drag_across_the_picture_shows_before_and_after(page: Page) -> None:
    page.choose("sample")
    hint = page.driver.find_element(By.CSS_SELECTOR, ".rill-hint")
    assert hint.is_displayed() and "before and after" in hint.text
    output = page.driver.find_element(By.ID, "rill-output")
    drag = ActionChains(page.driver, duration=20).move_to_element_with_offset(output, -60, 40).click_and_hold()
    drag.move_to_element_with_offset(output, 0, 40).move_to_element_with_offset(output, 40, 40).perform()
    assert page.js("return document.querySelector('.rill-frame').dataset.view") == "wipe"
    inset, picture = page.box(".rill-inset"), page.box("#rill-output")
    assert inset == pytest.approx(picture, abs=1)
    share = (picture["width"] / 2 + 40) / picture["width"]
    wiped = page.js("return parseFloat(getComputedStyle(document.querySelector('.rill-frame')).getPropertyValue('--wipe'))")
    assert wiped == pytest.approx(100 * share, abs=1)
    ActionChains(page.driver).release().perform()
    assert page.js("return document.querySelector('.rill-frame').dataset.view") == "inset"
    assert not hint.is_displayed()
    page.open(fresh=False).live().moves_on()
    assert not page.driver.find_element(By.CSS_SELECTOR, ".rill-hint").is_displayed(), "the hint is for the first drag"


def test_looks_by_keys_and_stars(page: Page) -> None:
    tiles = "[...document.querySelectorAll('.rill-part-looks [data-look]')]"
    assert page.js(f"return {tiles}.filter((tile) => tile.tabIndex === 0).length") == 1, "one stop for all"
    page.js("document.activeElement?.blur()")
    ActionChains(page.driver).send_keys("2").perform()
    page.wait("the second look", lambda: value(page, "prompt") == "green")
    page.js(f"{tiles}[0].focus()")
    ActionChains(page.driver).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).perform()
    assert page.js("return document.activeElement.dataset.look") == "blue"
    ActionChains(page.driver).send_keys(Keys.HOME, Keys.END, Keys.ENTER).perform()
    page.wait("the last look", lambda: value(page, "prompt") == "blue")
    page.js("rill.settings.put('prompt', 'my own')")
    page.wait("a prompt", lambda: value(page, "prompt") == "my own")
    page.js("document.activeElement.blur()")
    ActionChains(page.driver).send_keys("k").perform()
    first = f"return {tiles}[0].dataset.look"
    page.wait("the kept look first", lambda: page.js(first) == "my own")
    assert page.js(f"return {tiles}[0].querySelector('img').src.startsWith('data:image/jpeg')")
    page.open(fresh=False).live()
    page.wait("the kept look after a reload", lambda: page.js(first) == "my own")
    page.js(f"{tiles}[0].parentElement.querySelector('.rill-star').click()")
    page.wait("it is gone", lambda: page.js(first) == "red")
    page.js(f"{tiles}[1].parentElement.querySelector('.rill-star').click()")
    page.wait("a preset first", lambda: page.js(first) == "green")


def test_settings_outlive_a_reload_and_a_link_goes_first(page: Page) -> None:
    wanted = {"prompt": "blue", "strength": 0.7, "seed": 9, "cache.enabled": True}
    for key, setting in wanted.items():
        page.js("rill.settings.put(arguments[0], arguments[1])", key, setting)
    page.js("rill.settings.put('probe.enabled', true)")
    page.wait("the settings", lambda: wanted.items() <= page.js("return rill.settings.values").items())
    page.open(fresh=False).live()
    page.wait("the settings again", lambda: wanted.items() <= page.js("return rill.settings.values").items())
    assert value(page, "probe.enabled") is False, "a comparison is nothing to begin with"
    page.driver.get("about:blank")
    page.driver.get(f"{page.url}/#prompt=red")
    page.live()
    page.wait("the link", lambda: value(page, "prompt") == "red")
    assert value(page, "seed") == 0
    page.js("rill.reset()")
    page.wait("the defaults", lambda: value(page, "prompt") == FIELDS["prompt"].default)
    page.driver.get("about:blank")
    page.open(fresh=False).live()
    assert value(page, "prompt") == FIELDS["prompt"].default


@pytest.mark.parametrize("kind", ["camera", "sample", "prompt"])
def test_a_hidden_page_streams_on(open_page: Page, kind: str) -> None:
    """A page in a background tab gets no animation frames, and its timers run once a second."""
    page = open_page
    page.choose(kind)
    page.moves_on()
    other = page.driver.execute_cdp_cmd("Target.createTarget", {"url": "about:blank"})["targetId"]
    try:
        page.wait("a hidden page", lambda: page.js("return document.hidden"))
        page.moves_on(70)  # more than one a second would give before the patience ends
    finally:
        page.driver.execute_cdp_cmd("Target.closeTarget", {"targetId": other})
        page.driver.switch_to.window(page.driver.current_window_handle)  # in front again


WORDS = """rill.say('words', {
  understood: [{ setting: 'prompt', words: 'dark', meaning: 'at night', kind: 'light', by: 'alias' }],
  unknown: [{ setting: 'prompt', words: 'Spreadsheet', nearest: 'green', message: '' }],
  cut: [{ setting: 'prompt', tokens: 24, kept: '', lost: 'and more', message: '' }] })"""


def test_remarks_on_the_prompt_are_shown_below_it(page: Page) -> None:
    line = page.driver.find_element(By.CSS_SELECTOR, ".rill-part-understood")
    page.js("rill.settings.put('prompt', 'a spreadsheet, dark')")
    page.wait("the prompt", lambda: value(page, "prompt") == "a spreadsheet, dark")
    page.js(WORDS)
    assert "does not know “Spreadsheet”; nearest:" in line.text and "“dark” is read as “at night”" in line.text
    assert "Cut after 24 tokens: “and more” is not read" in line.text
    line.find_element(By.TAG_NAME, "button").click()
    page.wait("the nearest in its place", lambda: value(page, "prompt") == "a green, dark")
    page.js("rill.say('words', {})")
    assert not line.is_displayed(), "nothing to say"
    page.js("rill.reset()")


def test_an_input_of_another_shape_is_cropped_or_shown_whole(page: Page, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wide.png"), np.full((100, 400, 3), (30, 30, 220), np.uint8))
    page.js("rill.settings.put('prompt', 'as it is'); document.querySelector(\".rill-kind[data-kind='picture']\").click()")
    page.driver.find_element(By.CSS_SELECTOR, ".rill-part-source input[type=file]").send_keys(str(tmp_path / "wide.png"))
    page.wait("the picture", lambda: page.js("return rill.source.kind") == "picture")
    page.wait("red up to the edge", lambda: page.canvas()[5, 128, 0] > 150)
    page.engine()
    Select(page.driver.find_element(By.CSS_SELECTOR, ".rill-part-fit select")).select_by_value("fit")
    page.wait("black above it", lambda: page.canvas()[5, 128, 0] < 60)
    assert page.canvas()[128, 5, 0] > 150 and page.canvas()[128, 250, 0] > 150
    page.open(fresh=False).live()
    assert page.js("return rill.pump.fit"), "this browser remembers it"


def test_an_upright_and_a_wide_picture_fill_the_page(own: Page) -> None:
    own.engine()
    size = Select(own.driver.find_elements(By.CSS_SELECTOR, ".rill-part-spec select")[1])
    for words, shape in (("576 × 320 (16:9)", 576 / 320), ("256 × 448 (9:16)", 256 / 448)):
        size.select_by_visible_text(words)
        own.wait(words, lambda shape=shape: own.canvas().shape[1] / own.canvas().shape[0] == pytest.approx(shape))
        output = own.box("#rill-output")
        assert output["width"] / output["height"] == pytest.approx(shape, rel=0.01)
        assert own.js(BESIDE, "#rill-prompt") == [True, True, True]
        assert output["width"] > 550 or output["height"] > 550


@pytest.fixture
def own(desktop: webdriver.Chrome) -> Iterator[Page]:
    """A page on a server of its own, whose size may change."""
    studio = Studio(Limits())
    yield Page(desktop, studio.url).open().live()
    desktop.get("about:blank")
    studio.close()
