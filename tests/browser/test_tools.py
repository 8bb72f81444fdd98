"""What a visitor does beside watching: painting, clips, looks, keeping, measuring, holding."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.chrome import SAMPLE, Page
from tests.browser.conftest import Studio
from tests.browser.page_actions import click, downloaded, downloads, is_tinted, press, press_tool, shown, value

pytestmark = pytest.mark.browser

DISTURB = """const { both, trial } = rill.trial; // in one call: between two the next window may begin
  rill.settings.put('cache.enabled', !both[trial.on ? 0 : 1]['cache.enabled'])"""


def measure(page: Page, name: str) -> None:
    """Presses the button that measures a technique, once, when nothing of earlier changes is under way."""
    page.wait("a stream at rest", lambda: page.js("return rill.link.state === 'live' && !rill.settings.busy && !rill.trial"))
    page.engine()
    click(page, f".rill-part-measured[data-of={name}] button")
    page.wait(f"a measurement of {name}", lambda: page.js("return rill.trial?.name") == name)


def put(page: Page, selector: str, what: object, event: str = "change") -> None:
    """Gives a control a value as a user's hand would."""
    script = "const [at, to, name] = arguments; const item = document.querySelector(at); item.value = to;"
    page.js(f"{script} item.dispatchEvent(new Event(name))", selector, what, event)


def drag(page: Page, selector: str, *points: tuple[float, float]) -> None:
    """One stroke over an element, in shares of its size."""
    element = page.driver.find_element(By.CSS_SELECTOR, selector)
    width, height = element.size["width"], element.size["height"]
    places = [(int((x - 0.5) * width), int((y - 0.5) * height)) for x, y in points]
    chain = ActionChains(page.driver, duration=20).move_to_element_with_offset(element, *places[0]).click_and_hold()
    for place in places[1:]:
        chain.move_to_element_with_offset(element, *place)
    chain.release().perform()


def blueness(page: Page, x: int = 128) -> int:
    """How much bluer than red the canvas is at half its height."""
    red, _, blue = page.canvas()[128, x].astype(int)
    return int(blue - red)


def test_painting_reaches_the_model_on_paper_and_over_the_camera(page: Page) -> None:
    page.choose("paint")
    page.brushes()
    page.js("rill.settings.put('prompt', 'as it is')")
    page.wait("the paper", lambda: page.mean().min() > 200)
    put(page, ".rill-size input", 20, "input")
    click(page, ".rill-swatch[data-colour='#2f7fd6']")
    drag(page, ".rill-layer-colour", (0.1, 0.5), (0.5, 0.5), (0.9, 0.5))
    page.wait("a blue band", lambda: blueness(page) > 60)
    assert page.canvas()[10].mean() > 200
    page.screenshot("paint.png")
    page.choose("camera")  # the painting stays, above the camera's grey
    page.wait("grey around the band", lambda: 80 < page.canvas()[10].mean() < 150)
    assert blueness(page) > 60
    click(page, ".rill-easel button[aria-label^='Eraser']")
    drag(page, ".rill-layer-colour", (0.4, 0.5), (0.6, 0.5))
    page.wait("the camera where it was erased", lambda: abs(blueness(page)) < 40)
    click(page, ".rill-easel button[aria-label^='Undo']")
    page.wait("the band again", lambda: blueness(page) > 60)
    click(page, ".rill-easel button[aria-label^='Clear']")
    page.wait("no band", lambda: abs(blueness(page, 30)) < 40)
    click(page, ".rill-easel > .rill-plain")
    assert not page.driver.find_element(By.CSS_SELECTOR, ".rill-easel").is_displayed()


def test_a_clip_is_held_sought_and_looped_and_the_prompt_still_works_on_it(page: Page) -> None:
    page.play(SAMPLE)
    click(page, ".rill-clip button[aria-label='Hold the clip']")
    page.wait("it stands", lambda: page.js("return rill.source.element.paused"))
    page.moves_on()
    still = page.canvas().astype(int)
    page.moves_on(6)
    assert np.abs(page.canvas().astype(int) - still).mean() < 3
    page.js("rill.settings.put('prompt', 'red')")
    page.wait("a red picture", lambda: is_tinted(page, 0))
    put(page, ".rill-clip input", 9, "input")
    page.wait("another place", lambda: np.abs(page.canvas().astype(int) - still).mean() > 10)
    assert page.js("return rill.source.element.currentTime") == pytest.approx(9, abs=0.1)
    click(page, ".rill-clip button[aria-label='Play in a loop']")
    assert page.js("return rill.source.element.loop") is False
    click(page, ".rill-clip button[aria-label='Play the clip']")
    page.wait("it plays", lambda: page.js("return rill.source.element.currentTime") > 9.1)


def test_wipe_shows_the_input_left_of_its_line(page: Page) -> None:
    page.choose("sample")
    page.js("rill.settings.put('prompt', 'green')")
    page.wait("a green picture", lambda: is_tinted(page, 1))
    press_tool(page, "Wipe between input")
    handle = page.driver.find_element(By.CSS_SELECTOR, ".rill-wiper")
    handle.send_keys(Keys.HOME)
    clip = "return getComputedStyle(document.querySelector('.rill-inset')).clipPath"
    assert page.js(clip).startswith("inset(0px 100% 0px 0px")
    handle.send_keys(Keys.END)
    assert page.js(clip) in ("inset(0px)", "inset(0px 0% 0px 0px)")
    inset, output = page.box(".rill-inset"), page.box("#rill-output")
    assert inset["width"] > 0
    assert all(abs(inset[side] - output[side]) <= 1 for side in ("x", "y", "width", "height")), (inset, output)
    page.screenshot("wipe.png")


def test_the_wipe_shows_the_full_quality_picture_of_the_same_frame(page: Page) -> None:
    page.choose("sample")
    page.js("rill.settings.put('prompt', 'green')")
    page.wait("a green picture", lambda: is_tinted(page, 1))
    press_tool(page, "Wipe between input")
    press_tool(page, "Wipe between full quality")
    page.wait("the probe", lambda: value(page, "probe.enabled"))
    page.wait("a pair", lambda: page.js("return document.querySelector('.rill-pair').dataset.ready") == "true")
    mean = """const canvas = document.querySelector(arguments[0]);
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      const sums = [0, 0, 0];
      for (let at = 0; at < data.length; at++) if (at % 4 < 3) sums[at % 4] += data[at];
      return sums.map((sum) => (4 * sum) / data.length)"""
    red, green, _ = page.js(mean, ".rill-shown")
    assert green > red + 60
    red, green, _ = page.js(mean, ".rill-reference")
    assert abs(green - red) < 60, "the fake's reference has no tint"
    page.screenshot("reference.png")
    press_tool(page, "End the wipe")
    page.wait("the probe as before", lambda: value(page, "probe.enabled") is False)
    page.moves_on()


def test_the_brushes_go_with_the_paper(page: Page) -> None:
    page.choose("paint")
    page.brushes()
    page.choose("prompt")
    page.wait("no brushes", lambda: page.js("return document.querySelector('.rill-frame[data-painting]') === null"))
    assert page.js(
        "return document.querySelector('.rill-easel').hidden && document.querySelector('.rill-frame').dataset.view !== 'beside'"
    )
    page.choose("paint")
    page.brushes()


def test_the_brushes_come_while_another_input_is_still_opening(page: Page) -> None:
    page.choose("prompt")
    page.js("rill.choose('sample'); rill.choose('paint')")
    page.wait("the paper", lambda: page.js("return rill.source?.kind === 'paint' && rill.opening === 0"))
    page.brushes()
    page.choose("sample")
    click(page, ".rill-easel > .rill-plain")


def test_a_later_choice_holds_while_the_brushes_still_load(page: Page) -> None:
    """The tools load on their first use. What a visitor chooses meanwhile is kept."""
    page.choose("sample")
    page.js("rill.input('strength_map.mode', 'mask'); rill.input('strength_map.mode', 'motion')")
    page.wait("the later mode", lambda: value(page, "strength_map.mode") == "motion")
    press_tool(page, "Paint")  # loads the tools, so an earlier call has finished too
    page.brushes()
    assert value(page, "strength_map.mode") == "motion"
    click(page, ".rill-easel > .rill-plain")
    page.js("rill.reset()")


def test_what_is_painted_on_the_strength_map_reaches_the_session(page: Page, studio: Studio) -> None:
    page.choose("sample")
    press_tool(page, "Paint")
    page.brushes()
    click(page, ".rill-easel button[data-kind=mask]")
    page.wait("the mode", lambda: value(page, "strength_map.mode") == "mask")
    put(page, ".rill-size input", 20, "input")
    drag(page, ".rill-layer-mask", (0.2, 0.25), (0.8, 0.25))
    session = page.js("return rill.welcome.session")
    seats = studio.hub.seats._seats
    page.wait("the mask at the server", lambda: seats[session].session.mask is not None)
    mask = seats[session].session.mask
    assert mask is not None
    assert mask[32, 20:100].min() > 215 and mask[96].max() < 5, "only what is painted is changed"
    page.screenshot("mask.png")
    click(page, ".rill-easel button[aria-label^='Undo']")
    page.wait("no mask", lambda: seats[session].session.mask is None)
    click(page, ".rill-easel > .rill-plain")
    page.js("rill.reset()")


def test_looks_history_and_surprises(open_page: Page) -> None:
    page = open_page
    click(page, ".rill-part-looks [data-look=green]")
    page.wait("the second look", lambda: value(page, "prompt") == "green")
    kept = "return JSON.parse(localStorage.getItem('rill.prompts') ?? '[]')[0]"
    page.wait("the prompt in the history", lambda: page.js(kept) == "green")
    page.js("rill.settings.put('prompt', 'blue')")
    page.wait("another prompt", lambda: value(page, "prompt") == "blue")
    box = page.driver.find_element(By.CSS_SELECTOR, "#rill-prompt textarea, #rill-prompt input")
    box.send_keys(Keys.ARROW_UP)
    page.wait("the one before", lambda: value(page, "prompt") == "green")
    page.wait("the prompt in its box", lambda: box.get_attribute("value") == "green")
    click(page, ".rill-part-ask button[aria-label^='Earlier']")
    page.wait("the list", lambda: "green" in page.driver.find_element(By.CSS_SELECTOR, ".rill-menu").text)
    click(page, ".rill-part-ask button[aria-label^='Earlier']")
    seed = value(page, "seed")
    click(page, ".rill-part-ask button[aria-label^='Shuffle']")
    page.wait("a surprise", lambda: value(page, "seed") != seed and value(page, "prompt") != "green")


def test_the_blend_travels_to_the_second_prompt(open_page: Page) -> None:
    page = open_page
    page.js("rill.settings.put('prompt_b', 'red')")
    page.wait("the controls", lambda: page.js("return Boolean(document.querySelector('.rill-part-travel input'))"))
    put(page, ".rill-part-travel input", 4)
    seen = "globalThis.blends = []; rill.addEventListener('settings', ({ detail }) => blends.push(detail.blend))"
    page.js(seen)
    page.js("[...document.querySelectorAll('.rill-part-travel button')].at(-1).click()")
    page.wait("arrival", lambda: value(page, "blend") == 1)
    blends = page.js("return blends")
    assert blends == sorted(blends) and len({blend for blend in blends if 0 < blend < 1}) >= 3


def test_a_snapshot_restores_its_settings(page: Page, tmp_path: Path) -> None:
    wanted = {"prompt": "blue", "strength": 0.65, "gate.enabled": True, "seed": 77}
    for key, setting in wanted.items():
        page.js("rill.settings.put(arguments[0], arguments[1])", key, setting)
    page.wait("the settings", lambda: wanted.items() <= page.js("return rill.settings.values").items())
    page.wait("a blue picture", lambda: is_tinted(page, 2))
    downloads(page, tmp_path)
    press_tool(page, "Save picture")
    picture = downloaded(page, tmp_path, "*.png")
    page.js("rill.reset()")
    page.wait("the defaults", lambda: value(page, "seed") == 0)
    page.driver.find_element(By.CSS_SELECTOR, ".rill-part-keep input[type=file]").send_keys(str(picture))
    page.wait("the settings again", lambda: wanted.items() <= page.js("return rill.settings.values").items())
    assert picture.name in page.notice()
    page.js("rill.reset()")
    page.js(
        "[...document.querySelectorAll('.rill-part-keep button')].find((item) => item.textContent === 'Save settings').click()"
    )
    file = downloaded(page, tmp_path, "*.json")
    assert json.loads(file.read_text())["settings"]["prompt"]
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    page.driver.find_element(By.CSS_SELECTOR, ".rill-part-keep input[type=file]").send_keys(str(broken))
    page.wait("plain words", lambda: "holds no settings" in page.notice())


def test_a_recording_plays_back_and_its_moves_can_be_done_again(page: Page, tmp_path: Path) -> None:
    page.choose("camera")
    page.js("rill.settings.put('prompt', 'red')")
    page.wait("a red picture", lambda: is_tinted(page, 0))
    downloads(page, tmp_path)
    press(page, "Record")
    page.moves_on(20)
    page.js("rill.settings.put('prompt', 'green')")
    page.wait("a green picture", lambda: is_tinted(page, 1))
    page.moves_on(20)
    page.js("return rill.exchange((exchange) => exchange.record())")
    video = downloaded(page, tmp_path, "rill-*[4m]")
    with av.open(str(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) >= 15
    first, last = frames[len(frames) // 6].reshape(-1, 3).mean(axis=0), frames[-1].reshape(-1, 3).mean(axis=0)
    assert first[0] > first[1] + 50 and last[1] > last[0] + 50
    page.js("document.querySelector(\".rill-kind[data-kind='clip']\").click()")  # a browser plays it, as an input of its own
    page.driver.find_element(By.CSS_SELECTOR, ".rill-part-source input[type=file]").send_keys(str(video))
    page.wait("the recording as a clip", lambda: page.js("return rill.source.kind") == "clip")
    page.wait("that it plays", lambda: page.js("return rill.source.element.currentTime") > 0.2)
    length, width = page.js("const { duration, videoWidth } = rill.source.element; return [duration, videoWidth]")
    assert width == 256 and (length is None or length >= 0.5)  # a WebM that is just recorded does not know its length
    page.choose("camera")
    page.js("[...document.querySelectorAll('.rill-part-keep button')].find((item) => item.textContent === 'Save moves').click()")
    moves = downloaded(page, tmp_path, "*-moves.json")
    assert [move["patch"] for move in json.loads(moves.read_text())["moves"]] == [{"prompt": "green"}]
    page.js("rill.settings.put('prompt', 'blue')")
    page.wait("a blue picture", lambda: is_tinted(page, 2))
    page.driver.find_element(By.CSS_SELECTOR, ".rill-part-keep input[type=file]").send_keys(str(moves))
    page.wait("red, as at first", lambda: is_tinted(page, 0))
    page.wait("green, in its time", lambda: is_tinted(page, 1))


def test_an_effect_is_measured_on_the_running_stream_and_everything_is_put_back(page: Page) -> None:
    page.choose("sample")
    click(page, ".rill-clip button[aria-label='Hold the clip']")  # the gate skips what stands still
    measure(page, "gate")
    page.js("Object.assign(rill.trial.trial, { frames: 6, shortest: 0 })")
    said = "return document.querySelector('.rill-part-measured[data-of=gate] span').textContent"
    words = page.wait("the effect", lambda: page.js("return !rill.trial") and "ms a frame" in page.js(said) and page.js(said))
    assert words.startswith("−")
    page.wait("the gate as before", lambda: value(page, "gate.enabled") is False and value(page, "probe.enabled") is False)
    measure(page, "cache")
    page.js(DISTURB)
    page.wait("its end", lambda: page.js("return rill.trial === null") and "a setting was changed" in page.notice())
    page.wait("all as before", lambda: value(page, "cache.enabled") is False and value(page, "probe.enabled") is False)


def test_a_frame_rate_out_of_reach_moves_settings_and_says_why(page: Page) -> None:
    page.choose("sample")
    page.js("rill.settings.put('steps', 2)")
    page.wait("two steps", lambda: value(page, "steps") == 2)
    page.engine()
    hold = ".rill-part-hold"
    put(page, f"{hold} select", "fps")
    put(page, f"{hold} input", "", "input")
    page.wait("what is allowed", lambda: "from 1 to 120" in page.driver.find_element(By.CSS_SELECTOR, hold).text)
    put(page, f"{hold} input", 120, "input")
    page.wait("a move", lambda: value(page, "steps") == 1)
    page.wait("its reason", lambda: "missed 120.0 fps" in page.driver.find_element(By.CSS_SELECTOR, hold).text)
    put(page, f"{hold} select", "")
    page.wait("the user's own settings", lambda: value(page, "steps") == 2 and value(page, "gate.enabled") is False)
    page.js("rill.reset()")


def test_a_session_is_watched_from_elsewhere(page: Page) -> None:
    page.choose("sample")
    page.js("rill.settings.put('prompt', 'red')")
    page.wait("a red picture", lambda: is_tinted(page, 0))
    press(page, "Output for OBS or projector")
    field = "return [...document.querySelectorAll('.rill-view input')].map((item) => item.value)"
    clean, mjpeg = page.wait("two addresses", lambda: page.js(field))
    assert "view.mjpeg?token=" in mjpeg and page.js("return rill.connection.resume") not in mjpeg
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("window")
    try:
        page.driver.get(clean)
        page.wait("the red picture", lambda: shown(page)[0] > shown(page)[1] + 60)
        page.screenshot("view.png")
    finally:
        page.driver.close()
        page.driver.switch_to.window(first)


def test_every_shortcut_is_on_the_sheet(open_page: Page) -> None:
    page = open_page
    page.js("document.activeElement?.blur()")
    ActionChains(page.driver).send_keys("?").perform()
    sheet = page.wait("the sheet", lambda: page.driver.find_elements(By.CSS_SELECTOR, ".rill-sheet[open]"))[0]
    assert sheet.is_displayed() and "Shuffle look" in sheet.text and "Space" in sheet.text
    ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
    assert not sheet.is_displayed()
    ActionChains(page.driver).send_keys("i").perform()
    assert page.js("return document.querySelector('.rill-frame').dataset.view") == "beside"
    ActionChains(page.driver).send_keys("i").send_keys("i").perform()
    assert page.js("return document.querySelector('.rill-frame').dataset.view") == "inset"
    ActionChains(page.driver).send_keys(" ").perform()
    page.wait("a pause", lambda: page.status() == "Paused")
    ActionChains(page.driver).send_keys(" ").perform()
    page.wait("the picture", lambda: page.status().startswith("Live"))


def test_known_words_make_a_prompt(open_page: Page) -> None:
    page = open_page
    page.js("rill.settings.put('prompt', 'red')")
    page.wait("the prompt", lambda: value(page, "prompt") == "red")
    click(page, ".rill-part-ask button[aria-label^='Styles']")
    page.wait("the words", lambda: page.driver.find_elements(By.CSS_SELECTOR, ".rill-known button"))
    page.js("[...document.querySelectorAll('.rill-known button')].find((button) => button.textContent === 'at night').click()")
    page.wait("light added", lambda: value(page, "prompt") == "red, at night")
    page.wait(
        "shown as chosen", lambda: page.js("return document.querySelectorAll('.rill-known [aria-pressed=true]').length") == 2
    )
    click(page, ".rill-part-ask button[aria-label^='Styles']")
