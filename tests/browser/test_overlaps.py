"""What a visitor does while something earlier is still on its way: the later choice counts, and nothing is lost."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By

from tests.browser.chrome import Page
from tests.browser.conftest import Studio
from tests.browser.page_actions import value

pytestmark = pytest.mark.browser

ASK = """navigator.mediaDevices.getUserMedia = () => new Promise((_, reject) => {
    globalThis.deny = () => reject(new DOMException('', 'NotAllowedError'));
  });"""
USUAL = "delete navigator.mediaDevices.getUserMedia; delete globalThis.deny"
FIRST_VISIT = f"""{ASK}
  navigator.permissions.query = async () => ({{ state: 'prompt' }});
  const soon = (ready, act) => {{
    const timer = setInterval(() => ready() && (clearInterval(timer), act()), 1);
  }};
  const camera = () => document.querySelector('.rill-kind[data-kind=camera]');
  soon(camera, () => camera().click());
  soon(() => globalThis.rill, () => rill.input('prompt', 'red'))"""
TOOL = "const tool = (words) => document.querySelector(`.rill-tools [aria-label*='${words}']`).click();"
LOADED = "import(new URL(`rill/client/parts/${arguments[0]}.js`, document.baseURI)).then(() => setTimeout(arguments[1]))"


def test_a_first_visitor_who_denies_the_camera_sees_the_sample_and_keeps_what_was_typed(studio: Studio, page: Page) -> None:
    """The camera is chosen before the sample has opened, and the prompt is written before the model's welcome has come."""
    page.js("localStorage.setItem('rill.settings', JSON.stringify('prompt=blue&steps=2'))")
    added = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FIRST_VISIT})
    try:
        page.open(fresh=False)
        page.wait("the wish for the camera", lambda: page.js("return Boolean(globalThis.deny)"))
        page.wait("the sample meanwhile", lambda: page.js("return rill.source?.kind") == "sample")
        page.js("deny()")
        page.wait("the reason", lambda: "blocked" in page.notice() and page.js("return rill.opening === 0"))
        page.live().at_rest()
        assert (value(page, "prompt"), value(page, "steps")) == ("red", 2)
        assert page.js("return rill.source.kind") == "sample" and "blocked" in page.notice()
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_an_earlier_input_comes_if_the_later_one_does_not(open_page: Page) -> None:
    page = open_page
    page.choose("sample")
    page.js(ASK)
    try:
        page.js("globalThis.came = {}; for (const kind of ['paint', 'camera']) rill.choose(kind).then((ok) => (came[kind] = ok))")
        page.wait("the wish for the camera", lambda: page.js("return Boolean(globalThis.deny)"))
        page.js("deny()")
        page.wait("both", lambda: page.js("return came") == {"paint": True, "camera": False})
        assert page.js("return [rill.source.kind, rill.opening]") == ["paint", 0]
        page.js("document.querySelector('.rill-easel > .rill-plain')?.click()")
    finally:
        page.js(USUAL)


def test_what_is_chosen_while_a_part_still_loads_stands(page: Page) -> None:
    """Each part comes on its first use."""
    lists = "const list = document.querySelector(`.rill-part-ask [aria-label^='Styles']`); list.click(); list.click()"
    for part, act in (
        ("pair", TOOL + "tool('(w)'); tool('(w)'); tool('(i)')"),
        ("wordlist", lists),
        ("engine", "rill.toggleEngine(); rill.toggleEngine()"),
    ):
        page.js(act)
        page.driver.execute_async_script(LOADED, part)
    page.js("return Promise.all([rill.loadAfterwards(), rill.loadDrawer()]).then(() => null)")
    assert page.js("return document.querySelector('.rill-frame').dataset.view") == "inset"
    assert page.js("return document.querySelector('.rill-menu:not([hidden])')") is None
    assert page.js("return document.body.dataset.engine") is None


def test_a_brief_notice_gives_the_place_back_to_a_lasting_one(open_page: Page) -> None:
    page = open_page
    page.js("rill.notice('The camera gives no pictures.'); rill.notice('Saved a picture.', true)")
    assert page.notice() == "Saved a picture."
    page.driver.find_element(By.CSS_SELECTOR, ".rill-notice button").click()
    assert page.notice() == "The camera gives no pictures."
    page.driver.find_element(By.CSS_SELECTOR, ".rill-notice button").click()
    assert page.notice() == ""


def test_quick_clicks_and_keys_build_on_each_other(page: Page) -> None:
    """Not on what the server has acknowledged before."""
    page.js("localStorage.setItem('rill.prompts', JSON.stringify(['one', 'two', 'three']))")
    page.open(fresh=False).live()
    page.js("rill.settings.put('prompt', 'green')")
    page.at_rest()
    page.js("document.querySelector(`.rill-part-ask [aria-label^='Styles']`).click()")
    page.wait("the words", lambda: page.js("return document.querySelectorAll('.rill-known button').length") > 3)
    chips = "const chips = [...document.querySelectorAll('.rill-known button')]"
    page.js(chips + "; for (const word of ['red', 'at night']) chips.find((chip) => chip.textContent === word).click()")
    page.at_rest()
    assert value(page, "prompt") == "red, at night"
    page.js("rill.settings.put('prompt', 'one')")
    page.at_rest()
    box = page.driver.find_element(By.CSS_SELECTOR, "#rill-prompt :is(textarea, input)")
    key = "arguments[0].dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowUp', bubbles: true }));"
    page.js(key + key, box)
    page.at_rest()
    assert value(page, "prompt") == "three"


def test_a_comparison_and_a_measurement_at_once_leave_the_probe_as_it_was(open_page: Page) -> None:
    page = open_page
    page.choose("sample")
    page.engine()
    press = TOOL + "tool('(w)')"
    page.js(press)
    page.js(press)
    page.wait("the probe", lambda: value(page, "probe.enabled") is True)
    button = page.driver.find_element(By.CSS_SELECTOR, ".rill-part-measured[data-of=gate] button")
    page.wait("the button", lambda: page.js("return !arguments[0].hidden && !rill.settings.busy", button))
    page.js("arguments[0].click()", button)
    page.js(press)  # ends the comparison
    page.at_rest()
    page.js("arguments[0].click()", button)  # stops the measurement
    page.at_rest()
    assert page.js("return rill.trial") is None
    assert value(page, "probe.enabled") is False and value(page, "probe.every") == page.js(
        "return rill.settings.fields['probe.every'].default"
    )
