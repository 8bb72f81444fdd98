"""Every control by every kind of input: keys, clipboard, dictation, input methods, drops, touch."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.chrome import Page
from tests.browser.conftest import Studio
from tests.browser.hands import Hands

pytestmark = pytest.mark.browser

TEXTS = ("prompt", "prompt_b", "negative")
REPEATED_MS = 400  # more than the time in which controls.js writes an edit again
ANOTHER = """const { settings } = rill;
  settings.acknowledged({ version: settings.version, values: { ...settings.values, prompt: 'another' } })"""
UNKNOWN = """const { settings } = rill; // the page has no range any more, the server has one
  arguments[0].removeAttribute('min');
  settings.fields = { ...settings.fields, seed: { ...settings.fields.seed, low: undefined } }"""
SHOWN = "<style id=shown>.rill-body, .rill-body .block, .rill-absent { display: block !important }</style>"


@pytest.fixture
def hands(open_page: Page, studio: Studio) -> Hands:
    page = open_page.engine()
    page.js("if (!document.querySelector('#shown')) document.head.insertAdjacentHTML('beforeend', arguments[0])", SHOWN)
    page.wait("the second prompt", lambda: page.js("return Boolean(document.querySelector('#rill-blend input'))"))
    return Hands(page, studio)


@pytest.mark.parametrize("key", TEXTS)
def test_every_way_to_edit_a_text_reaches_the_server(hands: Hands, key: str) -> None:
    box = hands.element(key)
    hands.clear()
    hands.received(key, "")
    hands.paste("red and green")
    hands.received(key, "red and green")
    hands.press(Keys.BACKSPACE)
    hands.received(key, "red and gree")
    hands.press(Keys.HOME)
    hands.press(Keys.DELETE)
    hands.received(key, "ed and gree")
    hands.press(Keys.ARROW_RIGHT * 3, holding=Keys.SHIFT)
    hands.command("cut", "x")
    hands.received(key, "and gree")
    hands.command("undo", "z")
    hands.received(key, "ed and gree")
    hands.clear()
    hands.dictate("a dictated sea")
    hands.received(key, "a dictated sea")
    hands.clear()
    hands.drop("a dropped sky", box)
    hands.received(key, "a dropped sky")
    hands.page.at_rest()
    assert box.get_attribute("value") == "a dropped sky"


@pytest.mark.parametrize("key", TEXTS)
def test_half_composed_text_is_never_sent(hands: Hands, key: str) -> None:
    box = hands.element(key)
    hands.clear()
    hands.received(key, "")
    hands.page.at_rest()
    before = len(hands.sent(key))
    hands.compose("う", "うみ", "うみの")
    hands.page.wait("the composed text", lambda: box.get_attribute("value") == "うみの")
    assert not hands.page.js("return rill.settings.busy"), "half-composed text does not even wait to be sent"
    assert hands.settings().flat()[key] == ""
    hands.dictate("海の")
    hands.received(key, "海の")
    assert hands.sent(key)[before:] == ["海の"]


@pytest.mark.parametrize("key", TEXTS)
def test_a_composition_right_after_an_edit_is_kept(hands: Hands, key: str) -> None:
    """The page writes an edit again where Gradio's component returns to its first value, but never over a composition."""
    page, box = hands.page, hands.element(key)
    hands.clear()
    hands.press("a")
    hands.compose("う", "うみ")
    page.wait("the composed text", lambda: "う" in box.get_attribute("value"))
    began = page.js("return performance.now()")
    page.wait("the end of the time for writing again", lambda: page.js("return performance.now()") > began + REPEATED_MS)
    assert box.get_attribute("value") == "aうみ"
    hands.dictate("海")
    hands.received(key, "a海")


def test_a_typed_prompt_reaches_the_history_and_unmarks_the_look(hands: Hands) -> None:
    page = hands.page
    page.js("document.querySelector('.rill-part-looks [data-look=green]').click()")  # the drawer is in its place
    pressed = "return [...document.querySelectorAll('.rill-part-looks [aria-pressed=true]')].map((item) => item.textContent)"
    page.wait("the look", lambda: page.js(pressed) == ["green"])
    hands.element("prompt")
    hands.clear()
    hands.press("a typed prompt")
    hands.received("prompt", "a typed prompt")
    page.wait("no look", lambda: page.js(pressed) == [])
    kept = "return JSON.parse(localStorage.getItem('rill.prompts') ?? '[]')[0]"
    page.wait("the history", lambda: page.js(kept) == "a typed prompt")
    hands.clear()
    hands.press("red")
    page.wait("the look that was typed", lambda: page.js(pressed) == ["red"])


def test_numbers_by_keys_paste_and_wheel_of_the_keyboard(hands: Hands) -> None:
    hands.element("strength", "input[type=range]")
    hands.press(Keys.HOME)
    hands.received("strength", 0)
    hands.press(Keys.END)
    hands.received("strength", 1)
    hands.press(Keys.ARROW_LEFT, Keys.ARROW_DOWN)
    hands.received("strength", pytest.approx(0.98))
    box = hands.element("strength", "input[type=number]")
    hands.press("a", holding=Keys.CONTROL)
    hands.paste("0.25")
    hands.received("strength", 0.25)
    hands.press(Keys.ARROW_UP)
    hands.received("strength", pytest.approx(0.26))
    hands.press(Keys.BACKSPACE)
    hands.received("strength", 0.2)
    slider = hands.page.driver.find_element(By.CSS_SELECTOR, "#rill-strength input[type=range]")
    assert float(slider.get_attribute("value")) == pytest.approx(0.2)
    assert box.get_attribute("value") == "0.2"
    seed = hands.element("seed")
    hands.clear()
    hands.dictate("123")
    hands.received("seed", 123)
    hands.press(Keys.ARROW_DOWN)
    hands.received("seed", 122)
    assert seed.get_attribute("value") == "122"


INVALID = [
    ("strength", "", "0 to 1"),
    ("strength", "7", "0 to 1"),
    ("strength", "-", "0 to 1"),
    ("seed", "", "0 to 4294967295"),
    ("seed", "-5", "0 to 4294967295"),
    ("seed", "1.5", "whole number"),
    ("steps", "0", "whole number from 1"),
    ("steps", "99", "whole number from 1"),
]


@pytest.mark.parametrize(("key", "text", "words"), INVALID)
def test_an_invalid_number_gives_a_remark_and_is_neither_sent_nor_kept(hands: Hands, key: str, text: str, words: str) -> None:
    before, sent = hands.settings().flat()[key], len(hands.sent(key))
    box = hands.element(key, "input[type=number]")
    hands.press("a", holding=Keys.CONTROL)
    if text:
        hands.dictate(text)
    else:
        hands.press(Keys.BACKSPACE)
    block = f"#rill-{key}"
    said = "return document.querySelector(arguments[0] + ' .rill-wrong:not([hidden])')?.textContent ?? ''"
    hands.page.wait("the words", lambda: words in hands.page.js(said, block))
    assert box.get_attribute("aria-invalid") == "true"
    hands.press(Keys.TAB)
    hands.page.wait("the value again", lambda: box.get_attribute("value") == str(before))
    assert box.get_attribute("aria-invalid") is None
    hands.page.at_rest()
    assert hands.sent(key)[sent:] == [] and hands.settings().flat()[key] == before
    hands.element(key, "input[type=number]")
    hands.press("a", holding=Keys.CONTROL)
    hands.press("1")
    hands.received(key, 1)
    assert hands.page.js(said, block) == ""


def test_a_text_cut_at_its_limit_gives_a_remark(hands: Hands) -> None:
    hands.element("prompt")
    hands.clear()
    limit = hands.page.js("return rill.settings.fields.prompt.limit")
    hands.paste("a" * (limit + 50))
    hands.received("prompt", "a" * limit)
    said = hands.page.driver.find_element(By.CSS_SELECTOR, "#rill-prompt .rill-wrong")
    assert str(limit) in said.text
    hands.press(Keys.BACKSPACE)
    hands.page.wait("no words", lambda: not said.is_displayed())


def test_switches_and_choices_by_keys(hands: Hands) -> None:
    box = hands.element("gate.enabled", "input[type=checkbox]")
    for key, wanted in ((Keys.SPACE, True), (Keys.ENTER, False), (Keys.SPACE, True)):
        hands.press(key)
        hands.received("gate.enabled", wanted)
        assert box.is_selected() is wanted
    hands.element("guidance_mode", "input[value=none]")
    options = hands.page.js("return rill.settings.fields.guidance_mode.options")
    hands.press(Keys.ARROW_RIGHT)
    hands.received("guidance_mode", options[1])
    hands.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    hands.received("guidance_mode", options[-1])
    hands.page.at_rest()
    selected = "#rill-guidance-mode input:checked"
    shown = "return [...document.querySelectorAll(arguments[0])].map((item) => item.value)"
    hands.page.wait("one choice", lambda: hands.page.js(shown, selected) == [options[-1]])


def test_touch_moves_sliders_and_presses_switches(hands: Hands) -> None:
    page = hands.page
    with hands.touchscreen():
        hands.element("cache.enabled", "input[type=checkbox]")
        hands.tap("#rill-cache-enabled input")
        hands.received("cache.enabled", True)
        hands.element("noise.mode", "input[value=walk]")
        hands.tap("#rill-noise-mode input[value=walk]")
        hands.received("noise.mode", "walk")
        hands.element("strength", "input[type=range]")
        box = page.box("#rill-strength input[type=range]")
        middle = box["y"] + box["height"] / 2
        hands.touch(
            (box["x"] + box["width"] / 2, middle), (box["x"] + box["width"] * 0.7, middle), (box["x"] + box["width"] - 1, middle)
        )
        hands.received("strength", 1)


def test_the_caret_of_a_focused_control_never_jumps(hands: Hands) -> None:
    """The server acknowledges another value during typing: the control keeps the typed text until it loses the focus."""
    page = hands.page
    box = hands.element("prompt")
    hands.clear()
    hands.press("red sea")
    hands.press(Keys.HOME)
    hands.received("prompt", "red sea")
    hands.page.at_rest()
    page.js(ANOTHER)
    hands.press("a ")
    assert box.get_attribute("value") == "a red sea"
    assert page.js("return document.activeElement.selectionStart") == 2
    hands.received("prompt", "a red sea")
    hands.page.at_rest()  # the server's own answer must not come after this one
    page.js(ANOTHER)
    hands.press(Keys.TAB)
    page.wait("what was acknowledged", lambda: box.get_attribute("value") == "another")


def test_a_refused_value_gives_a_notice_and_is_reverted_when_the_control_loses_focus(hands: Hands) -> None:
    page = hands.page
    before = hands.settings().flat()["seed"]
    box = hands.element("seed")
    page.reusable = False
    page.js(UNKNOWN, box)
    hands.press("a", holding=Keys.CONTROL)
    hands.dictate("-5")
    page.wait("the refusal", lambda: "seed" in page.notice())
    assert box.get_attribute("value") == "-5"
    hands.press(Keys.TAB)
    page.wait("the value again", lambda: box.get_attribute("value") == str(before))
