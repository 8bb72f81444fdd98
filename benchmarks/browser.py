"""Measures the whole path in a real browser, with engine and Chromium on the same cores.

It measures `make run` to the first picture, the glass-to-glass latency, and the cost of the page. The camera is the handheld
clip. Latency is the page's figure: from capture in the browser to the draw of the answer, by the browser's own clock and the
echoed id, over a rolling window. The window is read several times; the result is the median.
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
import psutil

from benchmarks import clips, machine
from benchmarks import page as figures
from studio.cli.arguments import assignments

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("latency", "slider", "charts", "recording", "memory", "ready")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--readings", type=int, default=6, help="readings of the page's rolling window, 5 s apart")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument(
        "--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE", help="a setting of the page"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["latency"], help="what is measured (default: latency)")
    parser.add_argument("--all", action="store_const", dest="parts", const=list(PARTS), help="every part; about 16 minutes")
    parser.add_argument("--minutes", type=float, default=10.0, help="of streaming, for memory; 3 or more (default: 10)")


def main(args: argparse.Namespace) -> dict[str, Any]:
    from tests.browser import chrome  # starts Debian's Chromium

    if args.minutes < 3:
        raise SystemExit("app.py bench browser: --minutes must be 3 or more: the second minute is compared with the last")
    settings = assignments(args.assignments)
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
            page = chrome.Page(driver, url).open().live(120)
            first = time.perf_counter() - start
            page.choose("camera")
            for key, value in settings.items():
                page.js("rill.settings.put(arguments[0], arguments[1])", key, value)
            time.sleep(8)  # until the pacer has settled and the windows are full
            trees = {"browser": psutil.Process(driver.service.process.pid), "server": psutil.Process(server.pid)}
            measured = {part: measure(part, page, trees, args) for part in PARTS if part in args.parts}
        finally:
            driver.quit()
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)
    glass = measured.pop("latency", {})
    about |= {"settings": settings} if settings else {}
    return {"machine": about, "size": args.size, "make_run_to_first_picture_s": round(first, 2), **glass, **measured}


def measure(part: str, page: Any, trees: dict[str, psutil.Process], args: argparse.Namespace) -> dict[str, Any]:
    match part:
        case "latency":
            return latency(page, trees["browser"], args.readings)
        case "slider":
            return figures.slider(page)
        case "charts":
            return figures.charts(page, trees["browser"])
        case "recording":
            return figures.recording(page)
        case "memory":
            return figures.memory(trees, args.minutes)
        case _:
            return figures.ready(page)


def latency(page: Any, browser: psutil.Process, count: int) -> dict[str, Any]:
    """Readings of the rolling window, and the processor time of the browser for each picture meanwhile."""
    readings: list[dict[str, Any]] = []
    before = page.js(figures.SHOWN)[0]
    used, _ = figures.processor_seconds(browser, lambda: readings.extend(reading(page) for _ in range(count)))
    shown = max(1, page.js(figures.SHOWN)[0] - before)
    costs = {kind: round(1000 * seconds / shown, 2) for kind, seconds in sorted(used.items()) if 1000 * seconds / shown >= 0.05}
    return summary(readings) | {"browser_cpu_ms_per_picture": {"all": round(1000 * sum(used.values()) / shown, 1), **costs}}


def write_camera(path: Path, frames: int = 120) -> Path:
    """Write the handheld clip, 640x480, as the file of Chromium's fake camera."""
    with path.open("wb") as file:
        for picture in clips.clip("handheld", 640, 480, frames=frames):
            file.write(cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
    return path


def reading(page: Any) -> dict[str, Any]:
    time.sleep(5)
    script = (
        "const waits = rill.stats.answers.map(({ wait }) => wait); return { ...rill.stats.summary(performance.now()), waits }"
    )
    found: dict[str, Any] = page.js(script)
    return found


def summary(readings: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the readings; latencies and queue ages in ms, rates in frames per second."""

    def rounded_median(pick: Any) -> float:
        return round(median(float(pick(item) or 0) for item in readings), 1)

    waits = sorted(float(wait) for item in readings for wait in item["waits"])
    shown = rounded_median(lambda item: item["output_fps"])
    return {
        "readings": len(readings),
        "p50_ms": rounded_median(lambda item: item["latency"]["p50"]),
        "p95_ms": rounded_median(lambda item: item["latency"]["p95"]),
        "p50_each": [round(item["latency"]["p50"], 1) for item in readings],
        "p95_each": [round(item["latency"]["p95"], 1) for item in readings],
        "output_fps": shown,
        "input_fps": rounded_median(lambda item: item["input_fps"]),
        "queue_age_ms": {
            "p50": round(median(waits), 1) if waits else None,
            "p95": round(waits[int(0.95 * (len(waits) - 1))], 1) if waits else None,
            "one_frame": round(1000 / shown, 1) if shown else None,
        },
        "stage_ms": {name: rounded_median(lambda item, name=name: item["stages"][name]) for name in readings[0]["stages"]},
    }
