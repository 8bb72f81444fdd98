from pathlib import Path

import cv2

from benchmarks import browser


def reading(p50: float, p95: float, shown: float) -> dict[str, object]:
    return {"latency": {"p50": p50, "p95": p95}, "shown": shown, "offered": 30.0, "stages": {"encode": 4.0, "gate": None}}


def test_medians_of_the_readings() -> None:
    found = browser.summary([reading(80, 120, 20), reading(90, 150, 22), reading(70, 110, 24)])
    assert (found["p50_ms"], found["p95_ms"], found["shown_fps"], found["camera_fps"]) == (80.0, 120.0, 22.0, 30.0)
    assert found["p50_each"] == [80, 90, 70] and found["stage_ms"] == {"encode": 4.0, "gate": 0.0}


def test_the_camera_file_holds_the_clip(tmp_path: Path) -> None:
    content = browser.write_camera(tmp_path / "c.mjpeg", frames=3).read_bytes()
    assert content.count(b"\xff\xd8\xff") == 3
    reader = cv2.VideoCapture(str(tmp_path / "c.mjpeg"))
    assert reader.read()[1].shape == (480, 640, 3)
