import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import psutil
import pytest

from benchmarks import browser, page


def reading(p50: float, p95: float, shown: float) -> dict[str, object]:
    latency = {"p50": p50, "p95": p95}
    return {
        "latency": latency,
        "output_fps": shown,
        "input_fps": 30.0,
        "stages": {"encode": 4.0, "gate": None},
        "waits": [p50 / 10, 0.0],
    }


def test_medians_of_the_readings() -> None:
    found = browser.summary([reading(80, 120, 20), reading(90, 150, 22), reading(70, 110, 24)])
    assert (found["p50_ms"], found["p95_ms"], found["output_fps"], found["input_fps"]) == (80.0, 120.0, 22.0, 30.0)
    assert found["p50_each"] == [80, 90, 70] and found["stage_ms"] == {"encode": 4.0, "gate": 0.0}
    assert found["queue_age_ms"] == {"p50": 3.5, "p95": 8.0, "one_frame": 45.5}


def test_the_camera_file_holds_the_clip(tmp_path: Path) -> None:
    content = browser.write_camera(tmp_path / "c.mjpeg", frames=3).read_bytes()
    assert content.count(b"\xff\xd8\xff") == 3
    reader = cv2.VideoCapture(str(tmp_path / "c.mjpeg"))
    assert reader.read()[1].shape == (480, 640, 3)


class Scripted:
    """A page whose scripts have prepared answers, in the order of the calls."""

    def __init__(self, answers: Iterator[Any]) -> None:
        self.answers = answers
        self.keys: list[str] = []
        self.driver = SimpleNamespace(
            find_element=lambda *_: SimpleNamespace(send_keys=self.keys.append),
            execute_async_script=lambda *_: 1000,
        )

    def js(self, *_: object) -> Any:
        return next(self.answers)

    def wait(self, _: str, true: Any) -> Any:
        return true()


def test_a_slider_takes_as_long_as_its_worst_move() -> None:
    moves = [[1, 20.0], [2, 70.0], [2, 64.0], [1, 30.0]]
    scripted = Scripted(iter([None, 1, 2, 3, 4, moves]))
    found = page.slider(scripted, moves=4)
    assert found == {"moves": 4, "frames_worst": 2, "frames_mean": 1.5, "ms_p50": 47.0, "ms_worst": 70.0}
    assert len(scripted.keys) == 4


def test_recording_costs_the_share_of_pictures_that_are_missing() -> None:
    def answers() -> Iterator[Any]:
        for on in page.TURNS:
            if on:
                yield True  # the recorder began
            yield [100, 0.0]
            yield [100 + (19 if on else 20), 1000.0]

    found = page.recording(Scripted(answers()), window_s=0.0, rounds=1)
    assert (found["fps_without"], found["fps_with"], found["cost_percent"]) == (20.0, 19.0, 5.0)


def test_growth_is_the_last_minute_against_the_second() -> None:
    values = [50.0, 90.0, 100.0, 100.0, 120.0, 90.0, 103.0, 103.0]
    found = page.growth(values, per_minute=2)
    assert found["growth_percent"] == 3.0 and found["each_minute_mb"] == [70.0, 100.0, 105.0, 103.0]


def test_processor_time_is_the_trees_own_by_kind() -> None:
    """A child that burns a known time, in a tree beside this process."""
    burn = "import time\nwhile time.process_time() < 1.0: pass\ninput()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE) as child:
        root = psutil.Process(child.pid)

        def work() -> None:
            while sum(root.cpu_times()[:2]) < 0.9:
                time.sleep(0.05)

        used, wall = page.processor_seconds(root, work)
        assert page.megabytes(root) > 1
        child.kill()
    assert len(used) == 1
    assert 0.5 < sum(used.values()) <= 1.2 and wall > 0.5


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (["/usr/lib/chromium/chromium --type=renderer --lang=en"], "renderer"),
        (["chromium", "--type=gpu-process"], "gpu-process"),
        (["chromium"], "chromium"),
        ([], "chromium"),
    ],
)
def test_kinds_of_processes(command: list[str], kind: str) -> None:
    assert page.kind_of(command, "chromium") == kind


def test_memory_reads_every_tree() -> None:
    samples = page.memory({"this": psutil.Process()}, minutes=3, every_s=20.0, rest=lambda _: None)
    assert samples["this"]["at_the_end_mb"] > 20 and len(samples["this"]["each_minute_mb"]) == 3
