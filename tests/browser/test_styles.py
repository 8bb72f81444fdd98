"""Pictures as styles on the page: chosen, dropped, pasted, fitted, kept, applied again after a reload; a miniature engine."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from pipelines import PictureStyle, StreamSpec, write_style
from pipelines.values.vocabulary import read_vocabulary
from studio.model.fitter import FitNews
from studio.wire.limits import Limits
from tests.browser import chrome
from tests.browser.chrome import Page
from tests.browser.conftest import Studio
from tests.browser.hands import Hands
from tests.browser.page_actions import move
from tests.browser.test_models import SIZE, Watch
from tests.pipelines.engine.test_painted import LOOKS, add_painter
from tests.pipelines.engine.test_picture_prompt import add_reader
from tests.studio.visit.test_style_fits import FakeFitter

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

PART = ".rill-part-picture"
SAID = f"return document.querySelector('{PART} .rill-said').textContent"
FIT = f"return document.querySelector('{PART} progress').parentElement.textContent"
WORN = "return document.querySelectorAll('[data-look][aria-pressed=true]').length"
TILES = "return [...document.querySelectorAll('[data-style]')].map((tile) => tile.dataset.style)"


@dataclass(frozen=True)
class Atelier:
    studio: Studio
    engine: Watch
    fitter: FakeFitter

    @property
    def applied(self) -> Any:
        """The picture or style that the engine uses."""
        return self.engine.picture

    @property
    def second(self) -> Any:
        """What it mixes in."""
        return self.engine.second

    def style(self, value: float, name: str = "red waves") -> PictureStyle:
        assert self.engine.pipeline is not None
        parts = self.engine.pipeline.graphs.parts
        numbers = parts.plain_styles[0].numpy() * value
        tile = cv2.imencode(".jpg", np.full((144, 144, 3), (40, 40, 220), np.uint8))[1].tobytes()
        return PictureStyle(numbers, parts.painter_fingerprint, name, tile, "a test", "public domain", 60)


@pytest.fixture(scope="module")
def atelier(mini_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    chrome.binaries()
    model = tmp_path_factory.mktemp("atelier") / "model"
    shutil.copytree(mini_model, model)
    add_painter(model, LOOKS)
    add_reader(model)
    read_vocabulary.cache_clear()  # it was read before the reader was there
    engine, fitter = Watch(), FakeFitter()
    studio = Studio(Limits(), StreamSpec(str(model), SIZE, SIZE, "eager", "float32"), engine, fit_share=0.5)
    studio.hub.fits.fitter = fitter  # type: ignore[assignment]
    yield Atelier(studio, engine, fitter)
    studio.close()


@pytest.fixture
def page(atelier: Atelier, desktop: webdriver.Chrome) -> Iterator[Page]:
    """A visitor who keeps nothing yet."""
    desktop.get("about:blank")
    desktop.get_log("browser")
    atelier.fitter.requested.clear()
    origin = {"origin": "/".join(atelier.studio.url.split("/")[:3]), "storageTypes": "indexeddb"}
    desktop.execute_cdp_cmd("Storage.clearDataForOrigin", origin)
    try:
        page = Page(desktop, atelier.studio.url).open().live()
        yield page
        assert page.problems() == []
    finally:
        desktop.get("about:blank")


@pytest.fixture
def painting(tmp_path: Path) -> Path:
    path = tmp_path / "my sea.png"
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[:, 100:] = (40, 90, 220)
    cv2.imwrite(str(path), picture)
    return path


@pytest.fixture
def shared_file(atelier: Atelier, page: Page, tmp_path: Path) -> Path:
    """A style file of another person."""
    path = tmp_path / "from a friend.safetensors"
    path.write_bytes(write_style(atelier.style(0.5, "friend's waves")))
    return path


def choose(page: Page, path: Path) -> None:
    page.driver.find_element(By.CSS_SELECTOR, f"{PART} input[type=file]").send_keys(str(path))


def shows(page: Page, selector: str) -> bool:
    return page.driver.find_element(By.CSS_SELECTOR, selector).is_displayed()


def drop(page: Page, path: Path, selector: str) -> None:
    """A file from outside onto an element, by the browser's own events."""
    box = page.box(selector)
    place = {"x": box["x"] + min(box["width"] / 2, 60), "y": box["y"] + min(box["height"] / 2, 60)}
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for step in ("dragEnter", "dragOver", "drop"):
        page.driver.execute_cdp_cmd("Input.dispatchDragEvent", {"type": step, "data": data, **place})


def names(page: Page, atelier: Atelier) -> list[str]:
    """Names of styles that prompts of the page's session may use."""
    seat = atelier.studio.hub.seats._seats[page.js("return rill.welcome.session")]
    return [style.name for style in seat.session.names._styles.values()]


def keep(page: Page, name: str) -> None:
    box = page.driver.find_element(By.CSS_SELECTOR, f"{PART} form input")
    box.clear()
    box.send_keys(name, Keys.ENTER)
    page.wait("the tile", lambda: name in page.js(TILES))


def press(page: Page, label: str) -> None:
    page.js("document.querySelector(`button[aria-label^='${arguments[0]}']`).click()", label)


def is_style(atelier: Atelier) -> Callable[[], bool]:
    return lambda: isinstance(atelier.applied, PictureStyle)


def test_a_picture_becomes_a_style_its_fit_is_seen_stopped_and_goes_on(page: Page, atelier: Atelier, painting: Path) -> None:
    choose(page, painting)
    page.wait("the style at the engine", is_style(atelier))
    page.wait("the picture and its weight", lambda: shows(page, ".rill-prompt") and shows(page, "#rill-picture-scale"))
    (fit,) = atelier.fitter.requested
    fit.on_news(FitNews("waiting", place=2))
    page.wait("the place", lambda: "waits for 2 other pictures" in page.js(FIT))
    fit.on_news(FitNews("fitting"))
    page.wait(
        "what it waits for", lambda: "starts" in page.js(FIT) and "loads the model" in page.js(FIT) and "0%" not in page.js(FIT)
    )
    fit.on_news(FitNews("fitting", done=0.35, gain=0.28, share=0.5, style=atelier.style(0.5, "")))
    page.wait("how far it is", lambda: "fitting: 35%, 28% nearer, uses half of a core" in page.js(FIT))
    page.wait("the fitted numbers at the engine", lambda: atelier.applied.fitted == 60)
    assert page.js(f"return document.querySelector('{PART} progress').value") == pytest.approx(0.35)
    page.screenshot("style-fitting.png")
    stop = f"document.querySelector('{PART} progress ~ button').click()"
    page.js(stop)
    page.wait("the fit ends", lambda: "stopped" in page.js(FIT) and "Go on" in page.js(FIT))
    page.js(stop)
    page.wait("it is requested again", lambda: len(atelier.fitter.requested) == 2)
    atelier.fitter.requested[-1].on_news(FitNews("failed", done=0.4, gain=0.3, share=0.5, reason="not enough memory: a test"))
    page.wait("why it failed", lambda: "not enough memory: a test" in page.js(FIT))
    press(page, "Remove the picture")
    page.wait("no picture", lambda: atelier.applied is None)
    page.wait("nothing of it on the page", lambda: not shows(page, ".rill-prompt") and not shows(page, "#rill-picture-scale"))


def test_a_kept_style_survives_a_reload_and_is_applied_renamed_and_deleted(page: Page, atelier: Atelier, painting: Path) -> None:
    choose(page, painting)
    page.wait("the style at the engine", is_style(atelier))
    name = page.driver.find_element(By.CSS_SELECTOR, f"{PART} form input")
    page.wait("a name from the file", lambda: name.get_attribute("value") == "my sea")
    keep(page, "red waves")
    page.wait("an answer with the file", lambda: "Download the file" in page.js(SAID))
    page.screenshot("style-kept.png")
    numbers = atelier.applied.numbers
    page.open(fresh=False).live()
    page.wait("the tile again", lambda: page.js(TILES) == ["red waves"])
    page.wait("no picture in a new session", lambda: atelier.applied is None)
    page.wait("its name at the server", lambda: names(page, atelier) == ["red waves"])
    assert atelier.applied is None
    page.driver.find_element(By.CSS_SELECTOR, "[data-style='red waves']").click()
    page.wait("the kept numbers at the engine", lambda: is_style(atelier)() and np.array_equal(atelier.applied.numbers, numbers))
    page.wait("the tile is pressed", lambda: page.js("return document.querySelector('[data-style]').ariaPressed") == "true")
    assert page.js("return document.querySelectorAll('[data-style] img')[0].naturalWidth") == 144
    press(page, "Rename red waves")
    page.screenshot("style-renaming.png")
    ActionChains(page.driver).send_keys("blue, calm", Keys.ENTER).perform()
    page.wait("the new name", lambda: page.js(TILES) == ["blue, calm"])
    page.wait("it at the server", lambda: "blue, calm" in names(page, atelier))
    page.driver.find_element(By.CSS_SELECTOR, "[data-style]").click()
    page.wait("the new name at the engine", lambda: atelier.applied.name == "blue, calm")
    press(page, "Delete blue, calm")
    assert page.js(TILES) == ["blue, calm"], "the first press requests confirmation only"
    press(page, "Delete blue, calm")
    page.wait("no tile", lambda: page.js(TILES) == [])
    page.open(fresh=False).live()
    page.wait("the page is complete", lambda: page.js(f"return Boolean(document.querySelector('{PART}'))"))
    assert page.js(TILES) == []


def test_a_dropped_file_is_an_input_or_a_style_by_its_place_and_kind(
    page: Page, atelier: Atelier, painting: Path, shared_file: Path
) -> None:
    drop(page, painting, "#rill-looks")
    page.wait("a style from beside the picture", is_style(atelier))
    assert page.js("return rill.source.kind") != "picture"
    press(page, "Remove the picture")
    page.wait("no picture", lambda: atelier.applied is None)
    drop(page, painting, ".rill-frame")
    page.wait("an input from the picture itself", lambda: page.js("return rill.source.kind") == "picture")
    assert atelier.applied is None
    drop(page, shared_file, ".rill-frame")
    page.wait("a style's file is one everywhere", lambda: is_style(atelier)() and atelier.applied.name == "friend's waves")
    page.wait("it is kept", lambda: page.js(TILES) == ["friend's waves"])
    drop(page, shared_file, "#rill-prompt textarea")
    page.wait("once", lambda: page.js(TILES) == ["friend's waves"])
    assert page.js("return rill.source.kind") == "picture" and page.js("return location.pathname") == "/"


def test_two_pictures_blend_and_their_mixture_is_kept(page: Page, atelier: Atelier, painting: Path, shared_file: Path) -> None:
    assert not shows(page, "[data-second='true']")
    choose(page, painting)
    page.wait("a place for a second one", lambda: shows(page, "[data-second='true']"))
    assert not shows(page, "#rill-picture-blend")
    drop(page, shared_file, "[data-second='true']")
    page.wait("both at the engine", lambda: getattr(atelier.second, "name", "") == "friend's waves" and is_style(atelier)())
    page.wait("half of each", lambda: shows(page, "#rill-picture-blend") and atelier.engine.settings.picture.blend == 0.5)
    assert atelier.applied.name == ""
    page.screenshot("style-blend.png")
    assert move(page, "picture.blend", 0.25, "number") == "0.25"
    page.wait("the walk", lambda: atelier.engine.settings.picture.blend == 0.25)
    wanted = 0.75 * atelier.applied.numbers + 0.25 * atelier.second.numbers
    keep(page, "a mixture")
    page.driver.find_element(By.CSS_SELECTOR, "[data-style='a mixture']").click()
    page.wait(
        "the mixture alone",
        lambda: atelier.applied.name == "a mixture" and np.allclose(atelier.applied.numbers, wanted, atol=1e-5),
    )
    press(page, "Remove the second")
    page.wait("one picture", lambda: atelier.second is None and not shows(page, "#rill-picture-blend"))
    tile = page.driver.find_element(By.CSS_SELECTOR, '[data-style="friend\'s waves"]')
    ActionChains(page.driver).key_down(Keys.SHIFT).click(tile).key_up(Keys.SHIFT).perform()
    page.wait("a kept one as the second", lambda: getattr(atelier.second, "name", "") == "friend's waves")
    press(page, "Remove the second")
    page.wait("none again", lambda: atelier.second is None)
    blend = "button[aria-label^='Blend friend']"
    page.js("document.querySelector(arguments[0]).focus()", blend)
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    page.wait("by the keyboard", lambda: getattr(atelier.second, "name", "") == "friend's waves" and not shows(page, blend))
    press(page, "Remove the second")
    page.wait("a place for it", lambda: atelier.second is None and shows(page, blend))
    hands = Hands(page, atelier.studio)
    with hands.touchscreen():
        page.js("document.querySelector(arguments[0]).scrollIntoView({ block: 'center' })", blend)
        hands.tap(blend)
        page.wait("by a finger", lambda: getattr(atelier.second, "name", "") == "friend's waves")
    press(page, "Remove the picture")
    page.wait("nothing to blend with", lambda: atelier.applied is None and shows(page, blend) is False)


def test_a_picture_is_pasted(page: Page, atelier: Atelier, painting: Path) -> None:
    page.driver.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
    copy = """const [picture, done] = arguments;
      const blob = new Blob([Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0))], { type: 'image/png' });
      const item = new ClipboardItem({ 'image/png': blob });
      navigator.clipboard.write([item]).then(() => done(''), (error) => done(String(error)))"""
    assert page.driver.execute_async_script(copy, base64.b64encode(painting.read_bytes()).decode()) == ""
    page.js("document.activeElement?.blur()")
    Hands(page, atelier.studio).command("paste", "v")
    page.wait("a style from the clipboard", is_style(atelier))


def test_a_file_that_is_no_picture_or_style_is_named(page: Page, atelier: Atelier, shared_file: Path, tmp_path: Path) -> None:
    other = atelier.style(0.5, "strange")
    (tmp_path / "strange.safetensors").write_bytes(write_style(PictureStyle(other.numbers, "ffffffffffff", "strange")))
    (tmp_path / "broken.safetensors").write_bytes(shared_file.read_bytes()[:-3])
    (tmp_path / "lora.safetensors").write_bytes(bytes(300 * 1024))
    (tmp_path / "text.png").write_bytes(b"no picture")
    wrong = {
        "strange.safetensors": ("strange.safetensors", "another painter"),
        "broken.safetensors": ("broken.safetensors", "damaged"),
        "lora.safetensors": ("lora.safetensors is too large", "Allowed are pictures (JPEG, PNG, WebP) and styles"),
        "text.png": ("text.png is no picture", "Allowed are pictures (JPEG, PNG, WebP) and styles"),
    }
    for name, words in wrong.items():
        choose(page, tmp_path / name)
        page.wait(name, lambda words=words: all(word in page.js(SAID) for word in words))
    assert atelier.applied is None and page.js(TILES) == []


QUICK = f"""const send = document.querySelector('{PART} input[type=file]');
  const give = (name, bytes) => {{
    const data = new DataTransfer();
    data.items.add(new File([bytes], name));
    send.files = data.files;
    send.dispatchEvent(new Event('change'));
  }};
  const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));"""
HELD = """const read = File.prototype.arrayBuffer;
  File.prototype.arrayBuffer = function () {
    if (this.name !== 'first.safetensors') return read.call(this);
    return new Promise((resolve) => (globalThis.goOn = () => resolve(read.call(this))));
  };
  give('first.safetensors', bytes);
  give('broken.safetensors', bytes.slice(0, -3));
  give('text.png', 'no picture')"""


def test_pictures_in_quick_succession_are_taken_in_order_and_a_refused_one_leaves_the_one_before(
    page: Page, atelier: Atelier, shared_file: Path
) -> None:
    """The first file is read slowly. The server refuses the second one, and the third is no picture."""
    page.js(QUICK + HELD, base64.b64encode(shared_file.read_bytes()).decode())
    page.wait("the reading", lambda: page.js("return Boolean(globalThis.goOn)"))
    page.js("goOn()")
    page.wait("the last words", lambda: "text.png is no picture" in page.js(SAID) or "damaged" in page.js(SAID))
    page.wait("a style", is_style(atelier))
    page.wait("what is worn", lambda: shows(page, f"{PART} .rill-sourceline canvas"))
    page.wait("its tile", lambda: page.js(TILES) == ["friend's waves"])


def test_a_look_replaces_a_style_and_keeps_a_mixture(page: Page, atelier: Atelier, painting: Path) -> None:
    choose(page, painting)
    page.wait("the style at the engine", is_style(atelier))
    page.js("document.querySelector('[data-look]').click()")
    page.wait("the look takes its place", lambda: atelier.applied is None)
    page.wait("it is framed", lambda: page.js(WORN) >= 1)
    choose(page, painting)
    page.wait("the style again", is_style(atelier))
    page.wait("no frame: nothing of the look is seen", lambda: page.js(WORN) == 0)
    page.js("rill.settings.put('prompt_b', 'blue'); rill.settings.put('blend', 0.4)")
    page.wait("a second prompt", lambda: page.js("return rill.settings.values.blend") == 0.4)
    assert not shows(page, ".rill-part-mixture"), "it is not in the picture"
    page.js("rill.keepLook()")
    page.wait("why there is no look to keep", lambda: "Keep as a look" in page.notice())
    page.js("rill.settings.put('blend', 0)")
    page.js("rill.settings.put('picture.scale', 0.3)")
    page.wait("a mixture", lambda: page.js("return rill.settings.values['picture.scale']") == 0.3)
    page.wait("the look is framed again: it is in the picture", lambda: page.js(WORN) >= 1)
    page.js("document.querySelectorAll('[data-look]')[1].click()")
    wanted = page.js("return document.querySelectorAll('[data-look]')[1].look.settings.prompt")
    page.wait("the other look", lambda: atelier.engine.settings.prompt == wanted)
    assert is_style(atelier)(), "both of a mixture stay"
