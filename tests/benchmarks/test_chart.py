import numpy as np
import pytest
from PIL import Image

from benchmarks import chart
from benchmarks.chart import Point


def test_axes_hold_all_values_between_round_numbers() -> None:
    axis = chart.axis([0.93, 0.987], ceiling=1.0)
    assert axis.low <= 0.93 and axis.high == pytest.approx(1.0)
    assert axis.lines()[-1] == pytest.approx(1.0) and axis.at(axis.low) == 0.0 and axis.at(axis.high) == 1.0
    assert len(axis.lines()) <= 9
    alone = chart.axis([1.0], floor=1.0)
    assert alone.low < 1.0 <= alone.high


def test_dots_never_cover_each_other() -> None:
    places: list[tuple[float, float]] = []
    for _ in range(20):
        places.append(chart._beside((100.0, 100.0), places))
    distances = [np.hypot(a[0] - b[0], a[1] - b[1]) for i, a in enumerate(places) for b in places[:i]]
    assert min(distances) >= 2 * chart.DOT and places[0] == (100.0, 100.0)


def test_the_picture_shows_every_group_in_its_colour() -> None:
    points = [
        Point("one", "cache", (1.5, 1.4), 0.97),
        Point("four", "batch", (1.2, 1.1), 0.99),
        Point("four", "all", (2.0, 2.2), 0.95),
    ]
    image = chart.draw(points, "Title", ("frames", "CPU"), "SSIM")
    assert isinstance(image, Image.Image)
    pixels = {tuple(colour) for colour in np.asarray(image).reshape(-1, 3)[::7]}
    assert {chart.COLOURS[0], chart.COLOURS[1], chart.PAPER} <= pixels
    with pytest.raises(ValueError):
        chart.draw([], "Title", ("frames",), "SSIM")
