"""The studio in a real browser with a clip as its camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from benchmarks import page as figures
from pipelines import FIELDS
from tests.browser import chrome
from tests.browser.chrome import Page
from tests.browser.conftest import Studio
from tests.browser.page_actions import is_tinted, move, press_tool, type_prompt

pytestmark = pytest.mark.browser


def test_another_visitors_picture_never_shows(page: Page, visitor: webdriver.Chrome, studio: Studio) -> None:
    """Two browsers, a grey camera and a red one: each canvas contains its own pictures only."""
    other = Page(visitor, studio.url).open().live()
    for each in (page, other):
        each.choose("camera")
        each.js("rill.settings.put('prompt', 'as it is')")
    for each in (page, other):
        each.wait("the prompt", lambda each=each: each.js("return rill.settings.values.prompt") == "as it is")
        each.moves_on(8)
    try:
        for _ in range(8):
            page.moves_on(2)
            other.moves_on(2)
            red, green, blue = page.mean()
            assert abs(red - blue) < 15 and abs(red - green) < 15, (red, green, blue)
            red, green, blue = other.mean()
            assert red > 150 and red > blue + 80 and red > green + 80, (red, green, blue)
        sessions = {each.js("return rill.welcome.session") for each in (page, other)}
        assert len(sessions) == 2 and other.problems() == []
    finally:
        visitor.get("about:blank")


def test_the_figures_of_the_benchmark_can_be_taken(page: Page, desktop: webdriver.Chrome) -> None:
    """benchmarks/page.py on the deterministic engine, in short; its speeds are not judged here."""
    page.choose("camera")
    moved = figures.slider(page, moves=4)
    assert moved["moves"] == 4 and 1 <= moved["frames_worst"] <= 4
    browser = psutil.Process(desktop.service.process.pid)
    drawn = figures.charts(page, browser, window_s=0.3, rounds=1)
    assert len(drawn["each"]) == 2 and page.js("return document.hidden") is False
    recorded = figures.recording(page, window_s=0.5, rounds=1)
    assert recorded["fps_with"] > 0 and not page.js("return rill.exchanged.recorder.active")
    grown = figures.memory({"browser": browser}, minutes=3, every_s=30.0, rest=lambda _: None)
    assert grown["browser"]["at_the_end_mb"] > 100
    opened = figures.ready(page, visits=1)
    assert opened["again_ms"] > 0 and opened["first_visit_ms"] > 0
    page.live()


def test_camera_is_transformed_and_the_prompt_changes_it_live(open_page: Page) -> None:
    page = open_page
    page.choose("camera")
    page.moves_on()
    type_prompt(page, "red")
    page.wait("a red picture", lambda: is_tinted(page, 0))
    first = page.canvas().astype(int)
    page.wait("a picture that moves", lambda: np.abs(page.canvas().astype(int) - first).max() > 60)
    page.screenshot("camera-red.png")
    # A chip: the control follows the acknowledgement.
    page.js("[...document.querySelectorAll('.rill-chip')].find((chip) => chip.textContent === 'green').click()")
    page.wait("a green picture", lambda: is_tinted(page, 1))
    box = page.driver.find_element(By.CSS_SELECTOR, "#rill-prompt textarea, #rill-prompt input")
    page.wait("the prompt in its box", lambda: box.get_attribute("value") == "green")


def test_inputs_change_without_losing_the_session_or_the_picture(open_page: Page, tmp_path: Path) -> None:
    page = open_page
    session = page.js("return rill.welcome.session")
    picture = tmp_path / "still.png"
    cv2.imwrite(str(picture), np.full((300, 400, 3), (20, 20, 200), np.uint8))
    files = page.driver.find_element(By.CSS_SELECTOR, ".rill-part-source input[type=file]")
    for kind in ("camera", "sample", "prompt", "camera"):
        page.choose(kind)
        page.moves_on()
        assert page.canvas().max() > 40, f"black after {kind}"
    page.driver.find_element(By.CSS_SELECTOR, ".rill-kind[data-kind='screen']").click()  # browsers want a real click here
    page.wait("the screen", lambda: page.js("return rill.source.kind") == "screen")
    page.moves_on()
    # The file dialogue cannot open here; its outcome can be had.
    page.js("document.querySelector(\".rill-kind[data-kind='picture']\").click()")
    files.send_keys(str(picture))
    page.wait("the picture", lambda: page.js("return rill.source.kind") == "picture")
    page.wait("a picture in its colour", lambda: is_tinted(page, 0) or page.mean()[0] > 150)
    assert page.js("return rill.welcome.session") == session


def test_a_broken_file_gives_a_notice_and_the_stream_continues(open_page: Page, tmp_path: Path) -> None:
    page = open_page
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no clip at all")
    kind = page.js("return rill.source.kind")
    page.js("document.querySelector(\".rill-kind[data-kind='clip']\").click()")
    page.driver.find_element(By.CSS_SELECTOR, ".rill-part-source input[type=file]").send_keys(str(broken))
    page.wait("the notice", lambda: "cannot be shown" in page.notice())
    assert page.js("return rill.source.kind") == kind
    page.moves_on()


def test_controls_send_and_show_what_the_server_acknowledged(page: Page) -> None:
    slider = page.driver.find_element(By.CSS_SELECTOR, "#rill-strength input[type=range]")
    slider.send_keys(Keys.ARROW_RIGHT * 5)
    page.wait("the strength at the server", lambda: page.js("return rill.settings.values.strength") == pytest.approx(0.55))
    page.engine()
    page.js("document.querySelector('#rill-gate-enabled input').click()")
    page.wait("the gate on", lambda: page.js("return rill.settings.values['gate.enabled']") is True)
    assert page.driver.find_element(By.CSS_SELECTOR, "#rill-gate-threshold").is_displayed()
    page.js("document.querySelector('#rill-guidance-mode input[value=self]').click()")
    page.wait("guidance", lambda: page.js("return rill.settings.values.guidance_mode") == "self")
    # The server refuses this value: the control shows the old one, and a notice gives the reason.
    page.js("rill.settings.fields = {...rill.settings.fields, seed: undefined}; rill.input('seed', -5)")
    page.wait("the refusal", lambda: "seed" in page.notice())
    assert page.driver.find_element(By.CSS_SELECTOR, "#rill-seed input").get_attribute("value") == "0"
    page.driver.find_element(By.ID, "rill-dice").click()
    page.wait("a rolled seed", lambda: page.js("return rill.settings.values.seed") > 0)
    seed = page.js("return rill.settings.values.seed")
    shown = page.driver.find_element(By.CSS_SELECTOR, "#rill-seed input")
    page.wait("the seed in its box", lambda: shown.get_attribute("value") == str(seed))


def test_every_control_reaches_the_session_and_shows_what_was_acknowledged(page: Page, studio: Studio) -> None:
    """Each declared setting is moved by its own control; the session has it, and the control shows it."""
    page.engine()
    # What hides while it is idle is shown for this test.
    style = "<style>.rill-body, .rill-body .block, .rill-absent, #rill-looks { display: block !important }</style>"
    page.js("document.head.insertAdjacentHTML('beforeend', arguments[0])", style)
    page.wait("the second prompt", lambda: page.js("return Boolean(document.querySelector('#rill-blend input'))"))
    session = studio.hub.seats._seats[page.js("return rill.welcome.session")].session
    for key, field in FIELDS.items():
        rule = field.metadata
        kind = rule["kind"]
        match kind:
            case "flag":
                wanted: list[object] = [not field.default, field.default]
            case "choice":
                wanted = [*reversed(rule["options"]), field.default]
            case "text":
                wanted = ["dsds" if rule.get("form") else "red"]
            case _:
                wanted = [max(rule["low"], min(rule["high"], 3))]
        for value in wanted:
            shown = move(page, key, value, kind)
            page.wait(f"{key}: {value}", lambda key=key, value=value: session.settings.flat()[key] == value)
            page.wait(f"{key} acknowledged", lambda key=key, value=value: page.js("return rill.settings.values")[key] == value)
            assert shown == {"flag": value, "choice": True, "text": value}.get(kind, str(value)), key
    page.driver.find_element(By.ID, "rill-reset").click()
    page.wait("the defaults", lambda: session.settings.flat() == {key: field.default for key, field in FIELDS.items()})


def test_a_link_restores_prompt_sliders_and_switches(page: Page, studio: Studio) -> None:
    wanted = {"prompt": "blue & green", "strength": 0.7, "seed": 12345, "cache.enabled": True}
    for key, value in wanted.items():
        page.js("rill.settings.put(arguments[0], arguments[1])", key, value)
    page.wait("the settings", lambda: wanted.items() <= page.js("return rill.settings.values").items())
    link = page.js("return rill.address")
    page.driver.get("about:blank")
    page.driver.get(link)
    page.live()
    page.wait("the settings again", lambda: wanted.items() <= page.js("return rill.settings.values").items())
    page.wait("the control", lambda: page.js("return document.querySelector('#rill-cache-enabled input').checked"))
    page.js("rill.reset()")
    page.wait("the defaults", lambda: not wanted.items() & page.js("return rill.settings.values").items())


COUNT = """const { element } = rill.source;
  globalThis.pictures = 0;
  const count = () => element.requestVideoFrameCallback(() => ((pictures += 1), count()));
  count()"""


def test_pause_keeps_the_picture_and_the_status_shows_it(open_page: Page) -> None:
    page = open_page
    press_tool(page)
    page.wait("the word", lambda: page.status() == "Paused")
    page.wait("the last answer", lambda: page.js("return rill.pump.pacer.unsettled") == 0)
    page.js(COUNT)
    page.wait("an input that goes on", lambda: page.js("return pictures") >= 1)
    held, before = page.shown_frames(), page.js("return pictures")
    page.wait("ten pictures of the input", lambda: page.js("return pictures") >= before + 10)
    assert page.shown_frames() == held
    press_tool(page)
    page.moves_on()
    assert page.status().startswith("Live")


def test_latency_is_bounded_and_counted_by_verdict(open_page: Page) -> None:
    page = open_page
    page.choose("camera")

    def summary() -> dict[str, Any] | None:
        found = page.js("return rill.stats.summary(performance.now())")
        return found if found["rates"]["generated"] and (found["latency"] or {}).get("p50") else None

    latency = page.wait("figures of several frames", summary)["latency"]
    assert 0 < latency["p50"] <= latency["p95"]
    assert page.js("return rill.pump.pacer.unsettled") <= 2
    page.engine()
    figure = "return document.querySelector('[data-figure=p50]').textContent"
    page.wait("the figure, painted twice a second", lambda: page.js(figure) != "–")
    assert float(page.js(figure)) > 0


def test_a_page_at_rest_requests_few_animation_frames_and_has_no_empty_layers(desktop: webdriver.Chrome, studio: Studio) -> None:
    """Without a GPU each of them takes processor time from the model."""
    page = Page(desktop, studio.url)
    count = "{ const ask = window.requestAnimationFrame; window.asked = 0; "
    count += "window.requestAnimationFrame = (callback) => (window.asked++, ask.call(window, callback)) }"
    added = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": count})
    try:
        page.driver.get("about:blank")
        page.open().live().moves_on()
        now = "return [asked, performance.now()]"
        before = page.js(now)
        page.wait("two seconds", lambda: page.js(now)[1] > before[1] + 2000)
        after = page.js(now)
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    assert after[0] - before[0] <= 12 * (after[1] - before[1]) / 1000
    assert not page.driver.find_elements(By.CSS_SELECTOR, ".rill-layer")
    page.js("document.querySelector(`.rill-tools button[aria-label^='Paint']`).click()")
    page.brushes()
    page.js("document.querySelector('.rill-easel > .rill-plain').click()")
    layers = page.driver.find_elements(By.CSS_SELECTOR, ".rill-layer")
    assert len(layers) == 2 and not any(layer.is_displayed() for layer in layers)
    assert page.js("return getComputedStyle(document.querySelector('.rill-inset')).borderRadius") == "0px"


def test_without_a_camera_the_sample_plays_and_nothing_leaves_this_machine(studio: Studio) -> None:
    driver = chrome.start(size=(1280, 800), listen=True)
    try:
        page = Page(driver, studio.url)
        page.open()
        page.live()
        assert page.js("return rill.source.kind") == "sample"
        page.moves_on()
        page.screenshot("sample-desktop.png")
        page.js("document.querySelector(\".rill-kind[data-kind='camera']\").click()")
        page.wait("plain words about the camera", lambda: "camera" in page.notice().lower())
        assert page.js("return rill.source.kind") == "sample"
        page.moves_on()
        assert page.requested_hosts() == {studio.url.partition("//")[2]}
        assert page.problems() == []
    finally:
        driver.quit()
