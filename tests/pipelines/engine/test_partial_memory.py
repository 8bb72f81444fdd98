"""A window in the kept picture, against the formula with one weight for each pixel."""

import numpy as np
import pytest
import torch

from pipelines.engine.partial_memory import composed
from pipelines.techniques.partial import FEATHER, MARGIN, Window

HEIGHT, WIDTH = 320, 384


@pytest.mark.parametrize("window", [Window(0, 0, 256, 256), Window(64, 64, 256, 256), Window(0, 128, 256, 256)])
def test_a_window_fades_into_the_picture_and_is_whole_where_it_counts(window: Window) -> None:
    dice = np.random.default_rng(0)
    kept = dice.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    made = dice.integers(0, 256, (window.height, window.width, 3), np.uint8)
    weight = np.zeros((HEIGHT, WIDTH))
    for row in range(window.top, window.top + window.height):
        for column in range(window.left, window.left + window.width):
            product = 1.0
            for at, begin, length, whole in (
                (row, window.top, window.height, HEIGHT),
                (column, window.left, window.width, WIDTH),
            ):
                for distance, inside in ((at - begin + 0.5, begin > 0), (begin + length - at - 0.5, begin + length < whole)):
                    product *= min(max((distance - MARGIN + FEATHER) / FEATHER, 0.0), 1.0) if inside else 1.0
            weight[row, column] = product
    full = kept.astype(float)
    full[window.rows, window.columns] = made
    expected = kept + weight[..., None] * (full - kept)
    before = kept.copy()
    found = composed(torch.from_numpy(kept), torch.from_numpy(made), window).numpy()
    assert np.array_equal(kept, before), "the kept picture belongs to an answer"
    assert np.abs(found - expected).max() <= 1.0
    counts = np.zeros((HEIGHT, WIDTH), np.bool_)
    counts[window.inner(HEIGHT, WIDTH)] = True
    assert np.array_equal(found[counts], full[counts].astype(np.uint8))
