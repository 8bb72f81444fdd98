"""Models, LoRAs, ControlNet and picture prompt by the page's controls, on a miniature of the real engine: the value of a control
reaches the engine, and the control shows the acknowledged value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from pipelines import Pixels, Settings, StreamPipeline, StreamSpec, load
from studio.model.change import ChangeRule
from studio.wire.limits import Limits
from tests.browser import chrome
from tests.browser.chrome import SAMPLE, Page
from tests.browser.conftest import Studio
from tests.browser.page_actions import move
from tests.miniature import save_adapter, save_control, save_family, save_lora

pytestmark = pytest.mark.browser

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
SIZE = 128


@dataclass
class Watch:
    """Makes pipelines; keeps the newest one, and the settings and pictures of its last step."""

    pipeline: StreamPipeline | None = None
    settings: Settings | None = None
    picture: Pixels | None = None
    second: Pixels | None = None

    def __call__(self, spec: StreamSpec) -> StreamPipeline:
        made = load(spec)
        original = made.advance

        def step(entries: Any) -> Any:
            answers = original(entries)
            self.pipeline, self.settings, state = made, entries[0].settings, entries[0].state
            self.picture, self.second = state.seen.picture, state.seen_b.picture
            return answers

        made.advance = step  # type: ignore[method-assign]
        return made

    @property
    def loras(self) -> dict[str, float]:
        """Name to weight of what is fused."""
        assert self.pipeline is not None
        return {Path(use.name).stem: use.weight for use in self.pipeline.spec.loras}


@dataclass(frozen=True)
class Workshop:
    studio: Studio
    engine: Watch


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    chrome.binaries()
    root = tmp_path_factory.mktemp("workshop")
    for name in ("sd15", "sdxl"):
        save_family(root / "models" / name, name)
    (root / "loras").mkdir()
    generator = torch.Generator().manual_seed(1)
    for name in ("ink", "oil"):
        pair = torch.randn(2, 32, generator=generator), torch.randn(32, 2, generator=generator)
        save_lora(root / "loras" / f"{name}.safetensors", {LAYER: pair})
    model = f"{root}/models/sd15+control={save_control(root / 'edges', 'sd15')}+picture={save_adapter(root / 'adapter', 'sd15')}"
    engine = Watch()
    changes = ChangeRule(folders=(root / "models",), lora_folders=(root / "loras",))
    studio = Studio(Limits(), StreamSpec(model, SIZE, SIZE, "eager", "float32"), engine, changes=changes)
    yield Workshop(studio, engine)
    studio.close()


@pytest.fixture
def page(workshop: Workshop, desktop: webdriver.Chrome) -> Iterator[Page]:
    """On a clip that stands still: a change of the picture is one of the controls."""
    desktop.get("about:blank")
    desktop.get_log("browser")
    try:
        page = Page(desktop, workshop.studio.url).open().live()
        hold(page)
        page.engine()
        yield page
        assert page.problems() == []
    finally:  # a visitor that stays would lock the model for the next test
        desktop.get("about:blank")


def hold(page: Page) -> None:
    page.play(SAMPLE)
    page.driver.find_element(By.CSS_SELECTOR, ".rill-clip button[aria-label='Hold the clip']").click()
    page.wait("it stands", lambda: page.js("return rill.source.element.paused"))


def still(page: Page) -> np.ndarray:
    page.moves_on(4)
    return page.canvas().astype(int)


def acknowledged(page: Page, key: str, value: object) -> bool:
    return bool(page.js("return rill.settings.values[arguments[0]]", key) == value)


def test_the_controlnet_s_controls_reach_the_engine(page: Page, workshop: Workshop) -> None:
    engine = workshop.engine
    assert page.driver.find_element(By.CSS_SELECTOR, "#rill-conditions").is_displayed()
    assert move(page, "control.scale", 0, "number") == "0"
    page.wait("no scale", lambda: engine.settings is not None and engine.settings.control.scale == 0.0)
    plain = still(page)
    assert move(page, "control.scale", 1.2, "number") == "1.2"
    page.wait("the scale", lambda: engine.settings.control.scale == 1.2 and acknowledged(page, "control.scale", 1.2))
    page.wait("another picture", lambda: np.abs(still(page) - plain).mean() > 2)
    held = still(page)
    assert move(page, "control.map", "soft-edge", "choice") is True
    page.wait("the map", lambda: engine.settings.control.map == "soft-edge" and acknowledged(page, "control.map", "soft-edge"))
    page.wait("a picture by the other map", lambda: np.abs(still(page) - held).max() > 3)
    page.driver.find_element(By.ID, "rill-reset").click()


def test_a_picture_prompt_reaches_the_engine_and_can_be_taken_away(page: Page, workshop: Workshop, tmp_path: Path) -> None:
    engine, files = workshop.engine, ".rill-part-picture input[type=file]"
    page.js("rill.toggleEngine()")
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[:, 100:] = (40, 90, 220)
    cv2.imwrite(str(tmp_path / "like.png"), picture)
    plain = still(page)
    page.driver.find_element(By.CSS_SELECTOR, files).send_keys(str(tmp_path / "like.png"))
    page.wait("the picture at the engine", lambda: engine.picture is not None)
    assert engine.picture is not None and np.abs(engine.picture[224, 300].astype(int) - (220, 90, 40)).max() < 12
    assert page.driver.find_element(By.CSS_SELECTOR, ".rill-prompt").is_displayed()
    page.wait("another picture", lambda: np.abs(still(page) - plain).max() > 3)
    like = still(page)
    assert move(page, "picture.scale", 1.5, "number") == "1.5"
    page.wait("the scale", lambda: engine.settings.picture.scale == 1.5 and acknowledged(page, "picture.scale", 1.5))
    page.wait("a picture more like it", lambda: np.abs(still(page) - like).max() > 3)
    page.screenshot("picture-prompt.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page.driver.find_element(By.CSS_SELECTOR, files).send_keys(str(tmp_path / "broken.png"))
    said = "return document.querySelector('.rill-part-picture .rill-said').textContent"
    page.wait("plain words", lambda: "broken.png is no picture" in page.js(said))
    assert engine.picture is not None
    page.driver.find_element(By.CSS_SELECTOR, ".rill-part-picture button[aria-label^=Remove]").click()
    page.wait("no picture", lambda: engine.picture is None)
    assert not page.driver.find_element(By.CSS_SELECTOR, ".rill-prompt").is_displayed()
    page.engine().driver.find_element(By.ID, "rill-reset").click()
    page.wait("as before", lambda: np.abs(still(page) - plain).max() <= 4)


def box(page: Page, label: str) -> Select:
    at = f"//div[contains(@class, 'rill-part-spec')]//label[span[text()='{label}']]/select"
    return Select(page.driver.find_element(By.XPATH, at))


def weights(page: Page) -> dict[str, str]:
    """What the sliders of the LoRAs show, by their names."""
    row = "[row.querySelector('span').textContent, row.querySelector('output').textContent]"
    return dict(page.js(f"return [...document.querySelectorAll('.rill-lora')].map((row) => {row})"))


def chosen(page: Page) -> str:
    """The model that its box shows."""
    at = "[...document.querySelectorAll('.rill-part-spec label')].find((item) => item.textContent.startsWith('Model'))"
    return str(page.js(f"return {at}.querySelector('select').selectedOptions[0].textContent"))


def weigh(page: Page, name: str, weight: float) -> None:
    at = f".rill-lora input[aria-label='Weight of {name}']"
    script = "const [at, to] = arguments; const item = document.querySelector(at); item.value = to;"
    page.js(f"{script} item.dispatchEvent(new Event('input')); item.dispatchEvent(new Event('change'))", at, weight)


@pytest.mark.timeout(300)
def test_loras_are_added_weighed_and_removed(page: Page, workshop: Workshop) -> None:
    engine, plain = workshop.engine, still(page)
    box(page, "LoRA").select_by_visible_text("ink")
    page.wait("the LoRA", lambda: weights(page) == {"ink": "1.00"})
    page.wait("its picture", lambda: engine.loras == {"ink": 1.0} and np.abs(still(page) - plain).max() > 3)
    weigh(page, "ink", 0.4)
    page.wait("the weight", lambda: weights(page) == {"ink": "0.40"} and engine.loras == {"ink": 0.4})
    assert page.js("return rill.respec.spec.loras.map(({ weight }) => weight)") == [0.4]
    box(page, "LoRA").select_by_visible_text("oil")
    page.wait("both", lambda: weights(page) == {"ink": "0.40", "oil": "1.00"} and engine.loras == {"ink": 0.4, "oil": 1.0})
    page.js("document.querySelector('.rill-loras').scrollIntoView({ block: 'center' })")
    page.screenshot("loras.png")
    for name in ("ink", "oil"):
        page.js("document.querySelector(arguments[0]).click()", f".rill-lora button[aria-label='Remove {name}']")
        page.wait(f"{name} gone", lambda name=name: name not in weights(page) and name not in engine.loras)
    page.wait("as before", lambda: np.abs(still(page) - plain).max() <= 4)


@pytest.mark.timeout(300)
def test_another_model_shows_the_controls_that_it_has(page: Page, workshop: Workshop) -> None:
    conditions, first = page.driver.find_element(By.CSS_SELECTOR, "#rill-conditions"), chosen(page)
    assert first == "sd15 + edges + adapter" and conditions.is_displayed()
    box(page, "Model").select_by_visible_text("sdxl")
    page.wait("the other model", lambda: chosen(page) == "sdxl")
    page.wait("its pictures", lambda: workshop.engine.pipeline.spec.model.endswith("/sdxl"))
    page.wait("nothing that it lacks", lambda: not conditions.is_displayed())
    assert not page.driver.find_element(By.CSS_SELECTOR, ".rill-part-picture").is_displayed()
    page.moves_on()
    box(page, "Model").select_by_visible_text(first)
    page.wait("the first again", lambda: chosen(page) == first and conditions.is_displayed())
    page.moves_on()


def test_on_a_phone_every_control_fits(workshop: Workshop, tmp_path: Path) -> None:
    driver = chrome.start(size=(390, 844), phone=True)
    try:
        page = Page(driver, workshop.studio.url).open().live().engine()
        cv2.imwrite(str(tmp_path / "like.png"), np.full((64, 64, 3), 90, np.uint8))
        driver.find_element(By.CSS_SELECTOR, ".rill-part-picture input[type=file]").send_keys(str(tmp_path / "like.png"))
        page.wait("the picture", lambda: workshop.engine.picture is not None)
        box(page, "LoRA").select_by_visible_text("ink")
        page.wait("the LoRA", lambda: weights(page) == {"ink": "1.00"})
        for part, name in (("#rill-conditions", "conditions"), (".rill-part-spec", "loras")):
            page.js("document.querySelector(arguments[0]).scrollIntoView({ block: 'center' })", part)
            page.screenshot(f"{name}-phone.png")
            wide = "return [...document.querySelectorAll(arguments[0] + ' *')].filter((item) => "
            wide += "item.getBoundingClientRect().right > innerWidth + 1).map((item) => item.outerHTML.slice(0, 90))"
            assert page.js(wide, part) == []
        page.js("document.querySelector('.rill-lora button').click()")
        page.wait("no LoRA", lambda: weights(page) == {})
        assert page.js("return document.documentElement.scrollWidth") <= 390 and page.problems() == []
    finally:
        driver.quit()
