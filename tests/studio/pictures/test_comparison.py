"""Quality of shown pictures against references; flicker needs a picture and a source before it."""

from __future__ import annotations

import numpy as np

from pipelines import Pixels
from studio.pictures.comparison import REMEMBERED, Comparison


def flat(value: int) -> Pixels:
    return np.full((64, 64, 3), value, np.uint8)


def test_flicker_is_the_change_of_the_picture_where_the_source_stood_still() -> None:
    one = Comparison()
    for frame_id, level in ((1, 100), (2, 103)):
        one.remember_source(frame_id, flat(50), True)
        found = one.compare(frame_id, flat(level), flat(level))
    assert found is not None and found.ssim > 0.999 and found.flicker is not None and abs(found.flicker - 3) < 0.1


def test_without_a_reference_there_is_no_quality_and_without_a_past_no_flicker() -> None:
    one = Comparison()
    one.remember_source(1, flat(50), True)
    assert one.compare(1, flat(1), None) is None
    two = Comparison()
    two.remember_source(1, flat(50), True)
    found = two.compare(1, flat(1), flat(1))
    assert found is not None and found.flicker is None


def test_pictures_that_leave_late_meet_their_own_source() -> None:
    one = Comparison()
    for frame_id in (1, 2, 3):
        one.remember_source(frame_id, flat(10 * frame_id), True)
    one.compare(1, flat(1), None)
    found = one.compare(2, flat(9), flat(9))
    assert found is not None and found.flicker is None, "the source moved"


def test_memory_is_bounded_and_given_back_when_the_probe_is_off() -> None:
    one = Comparison()
    for frame_id in range(100):
        one.remember_source(frame_id, flat(0), True)
    assert len(one._sources) == REMEMBERED
    one.remember_source(100, flat(0), False)
    assert not one._sources and one._before is None
