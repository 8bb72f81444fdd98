"""Backend and size changed from the page: what the boxes show is what the server said, and the stream goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from pipelines import MemoryShortError, StreamSpec
from studio.limits import Limits
from tests.browser.chrome import Page
from tests.browser.conftest import Studio
from tests.studio.fake import FakePipeline

pytestmark = pytest.mark.browser


def slow_and_sometimes_short(spec: StreamSpec) -> FakePipeline:
    time.sleep(1.5)
    if spec.width == 1024:
        raise MemoryShortError("needs about 9.0 GB of memory (weights 8.0 GB, activations 1.0 GB); 2.0 GB are free")
    return FakePipeline(spec, 0.01)


@pytest.fixture
def own(desktop: webdriver.Chrome) -> Iterator[Page]:
    """A page on a server of its own: the others keep theirs as it is."""
    studio = Studio(Limits())
    studio.hub._factory = slow_and_sometimes_short
    desktop.get_log("browser")
    page = Page(desktop, studio.url).open().live()
    yield page
    desktop.get("about:blank")
    studio.close()


def boxes(page: Page) -> list[Select]:
    return [Select(item) for item in page.driver.find_elements(By.CSS_SELECTOR, ".rill-part-spec select")]


def shown(page: Page) -> list[str]:
    return [str(box.first_selected_option.text) for box in boxes(page)[:2]]


def said(page: Page) -> str:
    return str(page.js("return document.querySelector('.rill-part-spec .rill-said').textContent"))


def test_backend_and_size_change_while_the_picture_moves(own: Page) -> None:
    assert shown(own) == ["eager", "256 × 256"]
    session = own.js("return rill.welcome.session")
    boxes(own)[1].select_by_visible_text("384 × 384")
    own.wait("word that it is being built", lambda: "Building" in said(own))
    assert shown(own) == ["eager", "256 × 256"] and not boxes(own)[0]._el.is_enabled()
    own.moves_on()  # the present pipeline streams on
    own.wait("the new size", lambda: shown(own) == ["eager", "384 × 384"])
    own.wait("a picture of it", lambda: own.canvas().shape == (384, 384, 3) and own.mean().max() > 5)
    boxes(own)[0].select_by_visible_text("openvino")
    own.wait("the new backend", lambda: shown(own) == ["openvino", "384 × 384"])
    own.moves_on()
    assert "384 × 384" in own.js("return document.querySelector('.rill-engine').textContent")
    own.screenshot("spec.png")
    boxes(own)[1].select_by_visible_text("1024 × 1024")
    own.wait("the reason", lambda: "2.0 GB are free" in said(own))
    assert shown(own) == ["openvino", "384 × 384"] and boxes(own)[1]._el.is_enabled()
    own.moves_on()
    assert own.js("return rill.welcome.session") == session and own.problems() == []
