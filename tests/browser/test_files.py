"""Files that are brought to the page: transparent, animated, named wrongly, unreadable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By

from tests.browser.chrome import Page
from tests.pipelines.media.makers import clip, flat

pytestmark = pytest.mark.browser

MIDDLE = """
const canvas = new OffscreenCanvas(1, 1);
const context = canvas.getContext("2d");
context.drawImage(rill.source.element, x, 0, 1, 1, 0, 0, 1, 1);
return [...context.getImageData(0, 0, 1, 1).data];
"""


@pytest.fixture
def page(open_page: Page) -> Page:
    return open_page


def bring(page: Page, path: Path, kind: str = "picture") -> None:
    page.js(f"document.querySelector(\".rill-kind[data-kind='{kind}']\").click()")
    page.driver.find_element(By.CSS_SELECTOR, ".rill-part-source input[type=file]").send_keys(str(path))


def shown(page: Page, x: int = 0) -> list[int]:
    """The colour of the input's upper edge."""
    return page.js(MIDDLE.replace("x, 0", f"{x}, 0", 1))


def test_transparent_pixels_are_grey(page: Page, tmp_path: Path) -> None:
    made = np.full((64, 64, 4), 250, np.uint8)
    made[..., 3] = 0
    made[:, 32:] = (0, 0, 0, 255)
    Image.fromarray(made).save(tmp_path / "logo.png")
    bring(page, tmp_path / "logo.png")
    page.wait("the picture", lambda: page.js("return rill.source.label") == "logo.png")
    assert shown(page) == [128, 128, 128, 255] and shown(page, 60) == [0, 0, 0, 255]


def test_an_animated_picture_moves(page: Page, tmp_path: Path) -> None:
    frames = [Image.fromarray(flat(level)) for level in (20, 120, 220)]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:], duration=60, loop=0)
    bring(page, tmp_path / "moves.gif")
    page.wait("the picture", lambda: page.js("return rill.source.label") == "moves.gif")
    for level in (220, 20, 120):
        page.wait(f"level {level}", lambda level=level: abs(shown(page)[0] - level) < 3)


@pytest.mark.parametrize("kind", ["picture", "clip"])
def test_the_content_gives_the_kind(page: Page, tmp_path: Path, kind: str) -> None:
    """A picture that is called a clip, and a clip that is called a picture, chosen by either button."""
    Image.fromarray(flat(90)).save(tmp_path / "still.mp4", "PNG")
    bring(page, tmp_path / "still.mp4", kind)
    page.wait("a picture", lambda: page.js("return rill.source.label") == "still.mp4")
    assert page.js("return rill.source.kind") == "picture"
    clip(tmp_path / "moving", [flat(20 * index, 128, 128) for index in range(10)], form="webm", codec="libvpx").rename(
        tmp_path / "moving.png"
    )
    bring(page, tmp_path / "moving.png", kind)
    page.wait("a clip", lambda: page.js("return rill.source.label") == "moving.png")
    assert page.js("return rill.source.kind") == "clip"


def test_a_file_that_cannot_be_shown_is_named(page: Page, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no clip")
    bring(page, tmp_path / "text.mp4", "clip")
    page.wait("its name", lambda: "text.mp4 cannot be shown" in page.js("return document.body.innerText"))
