"""Maps made of a frame: their range, what they show, and that they show nothing of a plain picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipelines import Pixels
from pipelines.techniques.hints import hint
from pipelines.values.settings import MAPS


def disc() -> Pixels:
    """A bright disc on grey, 96 x 128."""
    rows, columns = np.mgrid[:96, :128]
    picture = np.full((96, 128, 3), 90, np.uint8)
    picture[(rows - 48) ** 2 + (columns - 64) ** 2 < 30**2] = (240, 220, 200)
    return picture


@pytest.mark.parametrize("kind", MAPS)
def test_a_map_is_three_equal_channels_in_range(kind: str) -> None:
    drawn = hint(disc(), kind)
    assert drawn.shape == (3, 96, 128) and drawn.dtype == np.float32
    assert drawn.min() >= 0 and 0.5 < drawn.max() <= 1
    assert np.array_equal(drawn[0], drawn[1]) and np.array_equal(drawn[0], drawn[2])


def test_canny_is_opencv_s_with_the_published_thresholds() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = cv2.Canny(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 100, 200)
    assert set(np.unique(hint(picture, "canny"))) == {0.0, 1.0}
    assert np.array_equal(hint(picture, "canny")[0] * 255, expected)


def test_soft_edges_lie_on_the_rim_and_fade() -> None:
    drawn = hint(disc(), "soft-edge")[0]
    assert drawn[48, 34:37].max() > 0.8 and drawn[48, 64] < 0.05 and drawn[5, 5] < 0.05
    assert 0.05 < drawn[48, 30] < 0.8, "no hard line"


def test_bright_and_low_is_near() -> None:
    drawn = hint(disc(), "depth-like")[0]
    assert drawn[48, 64] > drawn[48, 10] + 0.1 and drawn[90, 10] > drawn[5, 10] + 0.2


@pytest.mark.parametrize("kind", ["canny", "soft-edge"])
def test_a_plain_picture_has_no_edges(kind: str) -> None:
    assert hint(np.full((64, 64, 3), 120, np.uint8), kind).max() == 0
