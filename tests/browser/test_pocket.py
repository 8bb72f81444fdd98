"""The shipped model behind the page, started as a user would start it."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from selenium.webdriver.common.by import By

from tests.browser import chrome
from tests.browser.chrome import Page

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "assets" / "pocket" / "unet" / "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The URL that `app.py serve` prints."""
    chrome.binaries()
    if not WEIGHTS.is_file():
        pytest.skip("the pocket model's weights are not here")
    command = [sys.executable, str(ROOT / "app.py"), "serve", "--port", "0", "--size", "256"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT) as server:
        try:
            assert server.stdout is not None
            said: list[str] = []
            for line in server.stdout:
                said.append(line)
                if found := re.search(r"https?://[\w.:]+", line):
                    break
            else:
                pytest.fail("the server did not start:\n" + "".join(said))
            threading.Thread(target=server.stdout.read, daemon=True).start()
            yield found.group()
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A still from the sample clip."""
    path = tmp_path_factory.mktemp("still") / "astronaut.png"
    with av.open(str(ROOT / "assets" / "samples" / "sample.mp4")) as clip:
        frame = next(frame for index, frame in enumerate(clip.decode(video=0)) if index == 60)
        cv2.imwrite(str(path), frame.to_ndarray(format="bgr24"))
    return path


def test_the_shipped_model_transforms_and_follows_the_prompt(address: str, photograph: Path) -> None:
    driver = chrome.start()
    try:
        page = Page(driver, address).open().live()
        page.js("document.querySelector(\".rill-kind[data-kind='picture']\").click()")
        driver.find_element(By.CSS_SELECTOR, ".rill-part-source input[type=file]").send_keys(str(photograph))
        page.wait("the picture", lambda: page.js("return rill.source?.kind") == "picture")
        looks = []
        for prompt in page.js("return rill.welcome.model.prompts")[:2]:
            page.js("rill.settings.put('prompt', arguments[0])", prompt)
            page.wait("the prompt", lambda prompt=prompt: page.js("return rill.settings.values.prompt") == prompt)
            page.moves_on(4)
            looks.append(page.canvas().astype(int))
        source = cv2.resize(cv2.imread(str(photograph)), (256, 256), interpolation=cv2.INTER_AREA)[..., ::-1].astype(int)
        assert np.abs(looks[0] - source).mean() > 3
        assert np.abs(looks[0] - looks[1]).mean() > 3
        page.screenshot("pocket.png")
        assert page.problems() == []
    finally:
        driver.quit()
