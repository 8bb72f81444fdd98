"""Backend and size changed from the page: the boxes show the acknowledged spec, and the stream continues."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from pipelines import MemoryShortError, StreamSpec
from studio.wire.limits import Limits
from tests.browser.chrome import PATIENCE, Page
from tests.browser.conftest import STEP_S, Studio
from tests.studio.fake import FakePipeline

pytestmark = pytest.mark.browser


class Factory:
    """Builds pipelines while `allowed` is set; 1024 pixels need more memory than there is."""

    def __init__(self) -> None:
        self.allowed = threading.Event()
        self.allowed.set()

    def __call__(self, spec: StreamSpec) -> FakePipeline:
        assert self.allowed.wait(PATIENCE), "the test did not allow the build"
        if spec.width == 1024:
            raise MemoryShortError("needs about 9.0 GB of memory (weights 8.0 GB, activations 1.0 GB); 2.0 GB are free")
        return FakePipeline(spec, STEP_S)


@pytest.fixture
def factory() -> Factory:
    return Factory()


@pytest.fixture
def own(factory: Factory, desktop: webdriver.Chrome) -> Iterator[Page]:
    """A page on a server of its own: the others keep theirs as it is."""
    studio = Studio(Limits())
    studio.hub._factory = factory
    desktop.get_log("browser")
    page = Page(desktop, studio.url).open().live().engine()
    yield page
    desktop.get("about:blank")
    studio.close()


def boxes(page: Page) -> list[Select]:
    return [Select(item) for item in page.driver.find_elements(By.CSS_SELECTOR, ".rill-part-spec select")]


def shown(page: Page) -> list[str]:
    texts = "[...document.querySelectorAll('.rill-part-spec select')].map((box) => box.selectedOptions[0]?.textContent)"
    return list(page.js(f"return {texts}"))[:2]


def said(page: Page) -> str:
    return str(page.js("return document.querySelector('.rill-part-spec .rill-said').textContent"))


def test_backend_and_size_change_while_the_picture_moves(own: Page, factory: Factory) -> None:
    assert shown(own) == ["eager", "256 × 256"]
    session = own.js("return rill.welcome.session")
    factory.allowed.clear()
    boxes(own)[1].select_by_visible_text("384 × 384")
    own.wait("word that it is being built", lambda: "Switching size; the stream continues" in said(own))
    assert shown(own) == ["eager", "256 × 256"] and not boxes(own)[0]._el.is_enabled()
    own.moves_on()  # the present pipeline streams on
    factory.allowed.set()
    own.wait("the new size", lambda: shown(own) == ["eager", "384 × 384"])
    own.wait("a picture of it", lambda: own.canvas().shape == (384, 384, 3) and own.mean().max() > 5)
    boxes(own)[0].select_by_visible_text("openvino")
    own.wait("the new backend", lambda: shown(own) == ["openvino", "384 × 384"])
    own.moves_on()
    assert "384 × 384" in own.js("return document.querySelector('.rill-engine').textContent")
    words = "return document.querySelector('.rill-part-spec').textContent"
    own.wait("what it did to a full pass", lambda: "with eager, 256 × 256, float32 it took" in own.js(words))
    own.screenshot("spec.png")
    boxes(own)[1].select_by_visible_text("1024 × 1024")
    own.wait("the reason", lambda: "2.0 GB are free" in said(own))
    assert shown(own) == ["openvino", "384 × 384"] and boxes(own)[1]._el.is_enabled()
    own.moves_on()
    assert own.js("return rill.welcome.session") == session and own.problems() == []


def test_attention_is_offered_where_there_is_a_choice(own: Page) -> None:
    visible = "return !document.querySelectorAll('.rill-part-spec select')[3].parentElement.hidden"
    assert own.js(visible) is False
    own.js("rill.respec.welcome({ spec: rill.respec.spec, change: { attention: ['sdpa', 'xformers'] } })")
    assert own.js(visible) is True
    offered = [option.text for option in boxes(own)[3].options]
    assert offered == ["sdpa", "xformers"] and boxes(own)[3].first_selected_option.text == "sdpa"
    boxes(own)[3].select_by_visible_text("xformers")
    own.wait("the server's answer", lambda: own.js("return rill.respec.spec.attention") == "xformers")


def test_other_sizes_are_offered_and_their_share_where_it_acts(own: Page) -> None:
    box = boxes(own)[4]
    assert [option.text for option in box.options] == ["off", "attention", "full"]
    hidden = "return document.getElementById('rill-hires-share').classList.contains('rill-absent')"
    assert own.js(hidden) is True
    own.js("rill.respec.welcome({ spec: { ...rill.respec.spec, hires: 'full' }, change: rill.respec.choices })")
    assert own.js(hidden) is False


FASTER = 4  # of the clock that "Auto" judges by: it waits 12 s before it moves to another size
FASTEST = {
    "gate.enabled": True,
    "gate.threshold": 0.9,
    "cache.enabled": True,
    "cache.policy": "interval",
    "cache.interval": 6,
    "cache.branch": 0,
}


def test_holding_a_frame_rate_out_of_reach_takes_a_smaller_size_and_gives_it_back(own: Page) -> None:
    boxes(own)[1].select_by_visible_text("384 × 384")
    own.wait("the size to begin with", lambda: shown(own)[1] == "384 × 384")
    for key, value in FASTEST.items():  # nothing else is left to move
        own.js("rill.settings.put(arguments[0], arguments[1])", key, value)
    own.wait("the settings", lambda: FASTEST.items() <= own.js("return rill.settings.values").items())
    own.js("const { clock } = rill; rill.clock = () => FASTER * clock()".replace("FASTER", str(FASTER)))
    goal = own.driver.find_element(By.CSS_SELECTOR, ".rill-part-hold")
    Select(goal.find_element(By.TAG_NAME, "select")).select_by_visible_text("Auto: keep fps")
    own.js(
        "const goal = arguments[0]; goal.value = 120; goal.dispatchEvent(new Event('input'))",
        goal.find_element(By.TAG_NAME, "input"),
    )
    own.wait("a smaller size", lambda: shown(own)[1] == "320 × 320")
    own.wait("the reason", lambda: "320 × 320 pixels" in goal.text and "missed 120.0 fps" in goal.text)
    own.moves_on()
    Select(goal.find_element(By.TAG_NAME, "select")).select_by_visible_text("Auto: off")
    own.wait("its own size again", lambda: shown(own)[1] == "384 × 384")
    own.moves_on()
    assert own.problems() == []
