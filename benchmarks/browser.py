"""The whole way in a real browser, engine and Chromium on the same cores: `make run` to the first picture, then glass to glass.

The camera is the handheld clip. Latency is what the page shows: from capture in the browser to the draw of the answer, by the
browser's own clock and the echoed id, over a rolling window that is read several times; medians of the readings.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import cv2

from benchmarks import clips, machine

ROOT = Path(__file__).resolve().parents[1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--readings", type=int, default=6, help="readings of the page's rolling window, 5 s apart")
    parser.add_argument("--size", type=int, default=512)


def main(args: argparse.Namespace) -> dict[str, Any]:
    from tests.browser import chrome  # the tests know how to start Debian's Chromium

    about = machine.describe()
    with tempfile.TemporaryDirectory() as folder:
        camera = write_camera(Path(folder) / "camera.mjpeg")
        driver = chrome.start(*chrome.camera(camera))
        start = time.perf_counter()
        server = subprocess.Popen(
            ["make", "run", f"ARGS=--port 0 --size {args.size}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert server.stdout is not None
            url = next(found.group() for line in server.stdout if (found := re.search(r"https?://[\w.:]+", line)))
            page = chrome.Page(driver, url).open().live()
            first = time.perf_counter() - start
            page.choose("camera")
            time.sleep(8)  # the pacer finds its hold, windows fill
            readings = [reading(page) for _ in range(args.readings)]
        finally:
            driver.quit()
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)
    return {"machine": about, "size": args.size, "make_run_to_first_picture_s": round(first, 2), **summary(readings)}


def write_camera(path: Path, frames: int = 120) -> Path:
    """The handheld clip, 640x480, as the file that Chromium plays as its camera."""
    with path.open("wb") as file:
        for picture in clips.clip("handheld", 640, 480, frames=frames):
            file.write(cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
    return path


def reading(page: Any) -> dict[str, Any]:
    time.sleep(5)
    found: dict[str, Any] = page.js("return rill.stats.summary(performance.now())")
    return found


def summary(readings: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the readings; latencies in ms, rates in frames per second."""

    def middle(pick: Any) -> float:
        return round(median(float(pick(item) or 0) for item in readings), 1)

    return {
        "readings": len(readings),
        "p50_ms": middle(lambda item: item["latency"]["p50"]),
        "p95_ms": middle(lambda item: item["latency"]["p95"]),
        "p50_each": [round(item["latency"]["p50"], 1) for item in readings],
        "p95_each": [round(item["latency"]["p95"], 1) for item in readings],
        "shown_fps": middle(lambda item: item["shown"]),
        "camera_fps": middle(lambda item: item["offered"]),
        "stage_ms": {name: middle(lambda item, name=name: item["stages"][name]) for name in readings[0]["stages"]},
    }
