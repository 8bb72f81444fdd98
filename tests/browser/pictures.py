"""Makes docs/pictures from the running studio: python -m tests.browser.pictures [URL]; without a URL it starts one."""

from __future__ import annotations

import base64
import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.browser import chrome
from tests.browser.chrome import Page

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "pictures"
WARM_UP = 6.0
"""Seconds of streaming before the picture, so that the numbers have settled."""


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The URL of a studio that lives as long as the context."""
    command = [sys.executable, str(ROOT / "app.py"), "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdout is not None
        try:
            yield next(found.group() for line in server.stdout if (found := re.search(r"https?://[\w.:]+", line)))
        finally:
            server.terminate()


def picture(url: str, name: str, size: tuple[int, int], theme: str, *, phone: bool = False, script: str = "") -> None:
    """One picture of the live page as JPEG; `script` prepares it (a prompt, a switch)."""
    driver = chrome.start(size=size, phone=phone)
    try:
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": size[0], "height": size[1], "deviceScaleFactor": 2 if phone else 1, "mobile": phone},
        )
        page = Page(driver, url).open(theme).live()
        page.js(script)
        time.sleep(WARM_UP)
        shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "jpeg", "quality": 82})
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_bytes(base64.b64decode(shot["data"]))
    finally:
        driver.quit()


def main(url: str) -> None:
    first = "rill.settings.put('prompt', rill.welcome.model.prompts[0]);"
    second = "rill.settings.put('prompt', rill.welcome.model.prompts[1]); rill.settings.put('cache.enabled', true);"
    picture(url, "studio-dark.jpg", (1440, 900), "dark", script=first)
    picture(url, "studio-light.jpg", (1440, 900), "light", script=second)
    picture(url, "studio-phone.jpg", (390, 844), "dark", phone=True, script=first)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with serving() as address:
            main(address)
