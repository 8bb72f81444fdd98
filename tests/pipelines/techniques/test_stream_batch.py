import pytest
import torch

from pipelines.techniques.stream_batch import InFlight, Ring


def frame(frame_id: int, steps: int, level: int = 0) -> InFlight:
    return InFlight(frame_id, torch.zeros(1), None, tuple(range(steps, 0, -1)), level)


def test_ids_must_rise() -> None:
    ring = Ring()
    ring.admit(frame(4, 1))
    with pytest.raises(ValueError, match="ids must rise"):
        ring.admit(frame(4, 1))


def test_nothing_leaves_before_it_is_done() -> None:
    ring = Ring([frame(0, 2, level=1), frame(1, 2)])
    assert ring.depart().frame is None
    assert len(ring) == 2


def test_the_newest_finished_frame_leaves_and_older_ones_are_named() -> None:
    ring = Ring([frame(0, 4, level=3), frame(1, 4, level=4), frame(2, 4, level=1), frame(3, 1, level=1), frame(5, 3)])
    departure = ring.depart()
    assert departure.frame is not None and departure.frame.frame_id == 3
    assert departure.superseded == (0, 1, 2)
    assert [item.frame_id for item in ring.frames] == [5]
