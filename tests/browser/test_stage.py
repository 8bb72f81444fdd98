"""The stage and its notices: full screen, keys, inputs that end, second prompts, saved files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.chrome import Page
from tests.browser.conftest import Studio
from tests.browser.hands import Hands
from tests.browser.page_actions import click, downloaded, downloads, press, press_tool, value

pytestmark = pytest.mark.browser

STATE = """return [document.fullscreenElement !== null, document.querySelector('.rill-frame').dataset.view,
  rill.paused, rill.settings.wanted().seed, document.querySelector('dialog[open]') !== null]"""
FIELDS = {
  "a text area": "textarea", "a text box": "input", "a select": "select", "editable text": "div contenteditable=true",
  "a search box": "input type=search", "an ARIA text box": "div role=textbox tabindex=0",
}  # fmt: skip


def keys(page: Page, *names: str) -> None:
    ActionChains(page.driver).send_keys(*names).perform()


def test_the_prompt_is_written_in_full_screen(page: Page, studio: Studio) -> None:
    hands = Hands(page, studio)
    press_tool(page, "Full screen")
    page.wait("full screen", lambda: page.js("return document.fullscreenElement !== null"))
    before = page.js(STATE)
    prompt = page.wait(
        "the prompt's place", lambda: page.box("#rill-prompt textarea")["height"] and page.box("#rill-prompt textarea")
    )
    height = page.js("return innerHeight")
    assert page.js("return document.fullscreenElement.contains(document.querySelector('#rill-prompt'))")
    assert prompt["x"] >= 0 and prompt["x"] + prompt["width"] <= page.js("return innerWidth")
    assert prompt["y"] + prompt["height"] <= height and page.box("#rill-output")["height"] > height / 2
    keys(page, "/")
    page.wait("the focus", lambda: page.js("return document.activeElement.closest('#rill-prompt') !== null"))
    hands.press("a", holding=Keys.CONTROL)
    keys(page, "fire from above, wipe?")
    hands.received("prompt", "fire from above, wipe?")
    assert page.js(STATE) == before
    page.js("document.activeElement.blur()")
    keys(page, "f")
    page.wait("the window", lambda: page.js("return document.fullscreenElement === null"))


@pytest.mark.parametrize("name", FIELDS)
def test_keys_in_a_text_field_are_never_shortcuts(open_page: Page, name: str) -> None:
    page = open_page
    tag, _, attributes = FIELDS[name].partition(" ")
    markup = f"<{tag} {attributes} id='probe' style='position: fixed; top: 0; z-index: 9'></{tag}>"
    page.js("document.querySelector('.gradio-container').insertAdjacentHTML('beforeend', arguments[0])", markup)
    before = page.js(STATE)
    page.js("document.querySelector('#probe').focus()")
    keys(page, "firwpezslv? ")
    assert page.js(STATE) == before and not page.js("return rill.exchanged?.recorder.active")
    page.js("document.querySelector('#probe').remove()")


def test_keys_of_an_input_method_or_with_modifiers_are_no_shortcuts(open_page: Page) -> None:
    page = open_page
    page.js("document.activeElement?.blur()")
    before = page.js(STATE)
    for how in ("isComposing: true", "keyCode: 229", "ctrlKey: true", "metaKey: true", "altKey: true"):
        for key in ("f", "i", "r", " ", "?"):
            page.js(f"document.body.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true, {how} }}))")
    assert page.js(STATE) == before


def test_space_pauses_after_a_click_and_presses_what_the_keyboard_has_reached(page: Page) -> None:
    click(page, ".rill-part-looks [data-look=green]")
    page.wait("the look", lambda: value(page, "prompt") == "green")
    page.js("rill.settings.put('prompt', 'blue')")
    page.wait("another prompt", lambda: value(page, "prompt") == "blue")
    keys(page, " ")
    page.wait("a pause", lambda: page.js("return rill.paused"))
    keys(page, " ")
    page.wait("the picture", lambda: not page.js("return rill.paused"))
    assert value(page, "prompt") == "blue"
    keys(page, Keys.TAB)
    page.js("document.querySelector('.rill-part-looks [data-look=red]').focus()")
    keys(page, " ")
    page.wait("the look of the keyboard", lambda: value(page, "prompt") == "red")
    assert not page.js("return rill.paused")


@pytest.mark.parametrize("kind", ["camera", "screen"])
def test_a_source_that_ends_keeps_its_last_picture_and_gives_a_notice(page: Page, kind: str) -> None:
    if kind == "camera":
        page.choose("camera")
    else:
        click(page, ".rill-kind[data-kind='screen']")
        page.wait("the screen", lambda: page.js("return rill.source.kind") == "screen")
    page.js("rill.settings.put('prompt', 'as it is')")
    page.moves_on()
    page.wait("an input without a notice", lambda: page.notice() == "")
    page.js(END)
    page.wait("the last picture", lambda: page.js("return rill.source.held") is True)
    assert page.js("return rill.source.kind") == kind
    words = "camera is back" if kind == "camera" else "until you choose"
    page.wait("the words", lambda: words in page.notice())
    page.js("rill.settings.put('prompt', 'red')")  # the held picture is still worked on
    page.wait("red", lambda: page.mean()[0] > page.mean()[2] + 40)
    assert words in page.notice()
    if kind == "camera":
        page.js("navigator.mediaDevices.dispatchEvent(new Event('devicechange'))")
        page.wait("the camera again", lambda: page.js("return rill.source.kind === 'camera' && !rill.source.held"))
    else:
        page.choose("sample")
    page.wait("nothing to say", lambda: page.notice() == "")
    page.moves_on()


END = "const [track] = rill.source.element.srcObject.getTracks(); track.stop(); track.dispatchEvent(new Event('ended'))"


def test_the_notice_of_a_failed_input_ends_with_the_next_choice(page: Page) -> None:
    page.choose("sample")
    refuse = "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotReadableError'))"
    page.js(refuse)
    page.js("rill.choose('camera')")
    page.wait("the words", lambda: "in use by another program" in page.notice())
    slow = "navigator.mediaDevices.getDisplayMedia = () => new Promise((_, no) => (globalThis.refuse = no))"
    page.js(slow)
    page.js("rill.choose('screen')")  # the browser shows its dialogue; nothing has failed yet
    page.wait("no words", lambda: page.notice() == "")
    page.js("refuse(new DOMException('', 'NotAllowedError'))")
    page.wait("its own words", lambda: "No screen was chosen" in page.notice())
    page.js("rill.notice('Something else.', true)")
    page.js("rill.choose('sample')")
    page.wait("the sample", lambda: page.js("return rill.opening") == 0)
    assert page.notice() == "Something else."


def test_a_blended_second_prompt_is_shown_beside_the_first(page: Page) -> None:
    line = ".rill-part-mixture"
    shown = page.driver.find_element(By.CSS_SELECTOR, line)
    assert not shown.is_displayed()
    page.js("rill.settings.put('prompt_b', 'a stormy sea'); rill.settings.put('blend', 0.4)")
    page.wait("the words", lambda: "mixed in at 40%" in shown.text and "a stormy sea" in shown.text)
    page.js("rill.settings.put('blend', 1)")
    page.wait("that the first is not in it", lambda: "Only prompt B" in shown.text)
    assert page.js("return document.querySelector('#rill-prompt').matches('.rill-unused')")
    page.js(f"document.querySelectorAll('{line} button')[0].click()")
    page.wait("its box", lambda: page.js("return document.activeElement.closest('#rill-prompt-b') !== null"))
    click(page, ".rill-part-looks [data-look=red]")
    page.wait("the look alone", lambda: value(page, "prompt") == "red" and value(page, "blend") == 0)
    assert value(page, "prompt_b") == "a stormy sea", "a look erases no written text"
    page.wait("no words", lambda: not shown.is_displayed())
    page.js("rill.settings.put('blend', 0.5)")
    page.wait("the words again", shown.is_displayed)
    page.js(f"document.querySelectorAll('{line} button')[1].click()")
    page.wait("taken out", lambda: value(page, "blend") == 0)
    page.js("rill.reset()")


def transparent_clip(path: Path) -> Path:
    """A VP9 clip with alpha: a white square on nothing that jumps from corner to corner."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libvpx-vp9", rate=10, options={"lossless": "1"})
        stream.width = stream.height = 256
        stream.pix_fmt = "yuva420p"
        for index in range(20):
            picture = np.zeros((256, 256, 4), np.uint8)
            x, y = [(0, 0), (128, 0), (128, 128), (0, 128)][index % 4]
            picture[y : y + 128, x : x + 128] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format="yuva420p")))
        container.mux(stream.encode(None))
    return path


def transparent_picture(path: Path) -> Path:
    cv2.imwrite(str(path), np.zeros((256, 256, 4), np.uint8))
    return path


@pytest.mark.parametrize(
    ("kind", "make", "ending"), [("picture", transparent_picture, "png"), ("clip", transparent_clip, "webm")]
)
def test_nothing_of_an_earlier_input_shines_through_a_transparent_one(
    page: Page, tmp_path: Path, kind: str, make: Callable[[Path], Path], ending: str
) -> None:
    page.choose("paint")  # a bright input, which would be seen
    page.brushes()
    page.js("rill.settings.put('prompt', 'as it is')")
    page.wait("the paper", lambda: page.mean().min() > 200)
    click(page, ".rill-easel > .rill-plain")
    page.js(f"document.querySelector(\".rill-kind[data-kind='{kind}']\").click()")
    files = page.driver.find_element(By.CSS_SELECTOR, ".rill-part-source input[type=file]")
    files.send_keys(str(make(tmp_path / f"clear.{ending}")))
    page.wait("the input", lambda: page.js("return rill.source.kind") == kind)
    page.moves_on(8)
    for _ in range(6):
        page.moves_on(2)
        mean = page.mean()
        assert mean.min() > 120 and mean.max() < 175, mean  # grey is behind it; a quarter of the clip is white


FIREFOX = """const own = CanvasCaptureMediaStreamTrack.prototype;
  const { requestFrame } = own;
  delete own.requestFrame;
  MediaStream.prototype.requestFrame = function () { requestFrame.call(this.getVideoTracks()[0]) }"""


@pytest.mark.parametrize("browser", ["by the standard", "as in Firefox"])
def test_recording_and_saving_give_notices(page: Page, tmp_path: Path, browser: str) -> None:
    page.choose("sample")
    if browser == "as in Firefox":
        page.js(FIREFOX)
    downloads(page, tmp_path)
    press(page, "Record")
    badge = page.driver.find_element(By.CSS_SELECTOR, ".rill-recording")
    page.wait("the badge", lambda: badge.is_displayed() and "Recording" in badge.text)
    assert "Recording" in page.notice()
    page.moves_on(8)
    page.js("return rill.exchange((exchange) => exchange.record())")
    video = downloaded(page, tmp_path, "rill-*[4m]")
    page.wait("its name", lambda: video.name in page.notice())
    assert not badge.is_displayed()
    with av.open(str(video)) as container:
        assert len(list(container.decode(video=0))) >= 4
    press_tool(page, "Save picture")
    picture = downloaded(page, tmp_path, "*.png")
    page.wait("its name", lambda: picture.name in page.notice() and "downloads" in page.notice())


def test_a_browser_without_recording_gives_a_notice_and_the_stream_continues(page: Page) -> None:
    page.js("MediaRecorder.prototype.start = () => { throw new DOMException('no encoder', 'NotSupportedError') }")
    press(page, "Record")
    page.wait("the words", lambda: "cannot record" in page.notice())
    assert not page.js("return rill.exchanged.recorder.active")
    page.js("globalThis.heard = 0; rill.addEventListener('answer', () => (heard += 1))")
    page.wait("later answers", lambda: page.js("return heard") >= 3)


def test_the_chosen_look_is_brought_into_view(page: Page) -> None:
    page.js("document.querySelector('.rill-part-looks').style.width = '110px'")
    page.js("rill.settings.put('prompt', 'red')")
    page.wait("the first look", lambda: value(page, "prompt") == "red")
    page.js("rill.settings.put('prompt', 'blue')")
    inside = """const row = document.querySelector('.rill-part-looks').getBoundingClientRect();
      const one = document.querySelector('.rill-part-looks [aria-pressed=true]')?.getBoundingClientRect();
      return Boolean(one) && one.left >= row.left && one.right <= row.right"""
    page.wait("the last look in view", lambda: value(page, "prompt") == "blue" and page.js(inside))


def test_the_boxes_of_the_first_visitor_close_when_another_comes(page: Page, studio: Studio, visitor: webdriver.Chrome) -> None:
    disabled = "return [...document.querySelectorAll('.rill-part-spec select')].map((box) => box.disabled)"
    page.engine().wait("open boxes", lambda: not any(page.js(disabled)))
    try:
        Page(visitor, studio.url).open().live()
        page.wait("closed boxes", lambda: all(page.js(disabled)))
        assert "Locked while others are here" in page.driver.find_element(By.CSS_SELECTOR, ".rill-part-spec .rill-said").text
    finally:
        visitor.get("about:blank")
    page.wait("open boxes again", lambda: not any(page.js(disabled)))
