"""Sheets that are looked at: where each picture lies, and what it is made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.values.vocabulary import Word
from training.judging import command, sheets
from training.judging.subject import SIDE, Picture
from training.painter import sources

LOOKS = [Word(name, name, name, "") for name in ("ten", "twenty", "thirty", "forty")]
GREYS = {"ten": 10, "twenty": 20, "thirty": 30, "forty": 40}


class Engine:
    """Every picture is one grey: the look's, ten times the steps more, and a hundredth of the strength."""

    def __init__(self) -> None:
        self.strengths: list[float] = []

    def picture(self, photograph: Picture, prompt: str, strength: float = 0.5, steps: int = 1) -> Picture:
        self.strengths.append(strength)
        return np.full((SIDE, SIDE, 3), GREYS[prompt] + 50 * (steps - 1), np.uint8)

    def clip(self, frames: list[Picture], prompt: str) -> list[Picture]:
        return [np.full_like(frame, GREYS[prompt]) for frame in frames]


def photographs(count: int) -> list[Picture]:
    return [np.full((SIDE, SIDE, 3), 200, np.uint8)] * count


def test_looks_stand_in_a_grid_behind_the_photographs() -> None:
    engine: Any = Engine()
    sheet = sheets.all_looks(engine, LOOKS, photographs(2))
    high, wide = sheets.LABEL + sheets.TILE, 2 * sheets.TILE
    assert sheet.shape == (2 * high, sheets.ACROSS * wide, 3)
    middles = [int(sheet[row * high + high // 2, column * wide + 5, 0]) for row in range(2) for column in range(sheets.ACROSS)]
    assert middles == [200, 10, 20, 30, 40, 255]  # photographs, looks, an empty place


def test_steps_and_strengths_have_a_row_for_each_look() -> None:
    engine: Any = Engine()
    steps = sheets.by_steps(engine, LOOKS[:2], photographs(2))
    high = sheets.LABEL + sheets.LARGE
    assert steps.shape == (2 * high, 8 * sheets.LARGE, 3)
    assert [int(steps[high + 60, k * sheets.LARGE + 60, 0]) for k in range(8)] == [20, 70, 120, 170] * 2
    engine.strengths.clear()
    assert sheets.by_strength(engine, LOOKS[:1], photographs(2)).shape == (high, 12 * sheets.LARGE, 3)
    assert engine.strengths == [*sheets.STRENGTHS] * 2


def test_the_clip_moves_beside_its_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = Engine()
    frames = [np.full((SIDE, SIDE, 3), 40 * k, np.uint8) for k in range(3)]
    monkeypatch.setattr(sheets.judge, "frames", lambda path, count: frames)
    sheets.moving(engine, LOOKS[1:3], tmp_path / "clip.mp4", tmp_path / "clip.webp")
    with Image.open(tmp_path / "clip.webp") as image:
        assert image.n_frames == 3 and image.size == (3 * sheets.LARGE, sheets.LARGE)
        image.seek(2)
        seen = np.asarray(image.convert("RGB"))
    assert [abs(int(seen[50, k * sheets.LARGE + 50, 0]) - grey) < 4 for k, grey in enumerate((80, 20, 30))] == [True] * 3


def test_commands_share_their_arguments_and_find_what_is_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = command.parser("x", "y", tmp_path / "z").parse_args(["--runs", str(tmp_path)])
    assert (args.model, args.runs, args.output) == (Path("assets/pocket"), tmp_path, tmp_path / "z")
    listed = [type("Listed", (), {"name": name, "path": f"{name}.jpg", "held_out": name == "a"})() for name in "ab"]
    monkeypatch.setattr(sources, "read", lambda folder: listed)
    assert command.held_out(tmp_path) == {"a": tmp_path / "painter/sources/a.jpg"}
