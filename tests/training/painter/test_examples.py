"""The styles that ship as files: each is for pocket's painter, names what it was made from, and has a tile."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines import read_style
from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.checkpoints.naming import describe
from training.painter.examples import EXAMPLES
from training.painter.sources import HELD_OUT

FOLDER = Path(__file__).parents[3] / "assets"
FILES = sorted((FOLDER / "pocket/styles").glob("*.safetensors"))


def test_there_are_six_of_the_listed_ones_and_none_is_held_out() -> None:
    assert {path.stem.replace("-", " ") for path in FILES} <= set(EXAMPLES.values()) and len(FILES) >= 6
    assert not EXAMPLES.keys() & HELD_OUT


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_for_pockets_painter_and_names_its_painting(path: Path) -> None:
    parts = ModelParts(describe("pocket"))
    style = read_style(path.read_bytes(), path.name)
    style.check(parts.painter_fingerprint, parts.plain_styles.shape[1], path.name)
    assert style.name == path.stem.replace("-", " ") and style.fitted > 0
    assert style.licence == "public domain" and "gcompris-qt-data" in style.picture
    assert cv2.imdecode(np.frombuffer(style.tile, np.uint8), cv2.IMREAD_COLOR).shape == (144, 144, 3)
    assert path.stat().st_size < 20_000
