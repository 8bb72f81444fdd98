"""The benchmark of the picture at rest: what it reads out of a client's pictures. Nothing here asserts speed."""

from __future__ import annotations

import numpy as np

from benchmarks.rest import CANDIDATES, RESTS_S, Seen, improvement, summary
from pipelines import Pixels

SOURCES = [np.full((64, 64, 3), 40 * number, np.uint8) for number in range(6)]
GRAIN = np.random.default_rng(0).integers(0, 40, (64, 64, 3), np.uint8)


def drawn(look: str, pixels: Pixels, steps: int) -> Pixels:
    """As a model that needs two steps or more for the grain."""
    return pixels + GRAIN * np.uint8(steps > 1)


def seen() -> Seen:
    """Frames 1 and 2 move, 3 and 4 rest, 5 moves; the picture of frame 4 is refined at second 1.3."""
    found = Seen(dict(enumerate(SOURCES)), rest=(1.0, 3), move=(2.0, 5))
    found.pictures = [
        (0.9, 2, drawn("", SOURCES[2], 1)),
        (1.1, 3, drawn("", SOURCES[3], 1)),
        (1.2, 4, drawn("", SOURCES[4], 1)),
        (1.3, 4, drawn("", SOURCES[4], 4)),
        (2.1, 4, drawn("", SOURCES[4], 4)),
        (2.25, 5, drawn("", SOURCES[5], 1)),
    ]
    return found


def test_what_is_shown_at_rest_is_compared_with_more_steps_of_its_own_source() -> None:
    assert CANDIDATES >= 2
    found = improvement(seen(), "a", drawn)  # type: ignore[arg-type]
    assert found["end"] == 1.0 and found["before"] < 0.97 and found["goal_s"] == 0.3
    assert [at for at, _ in found["trace"]] == [0.1, 0.2, 0.3]
    assert seen().first_moved_s == 0.25


def test_pictures_that_never_came_are_no_figures() -> None:
    nothing = Seen(dict(enumerate(SOURCES)), rest=(1.0, 3), move=(2.0, 5))
    assert nothing.first_moved_s is None
    assert improvement(nothing, "a", drawn) == {"before": None, "end": None, "goal_s": None, "trace": []}  # type: ignore[arg-type]


def test_summary_pairs_runs_with_and_without_it() -> None:
    runs = [
        {"rest": rest, "refine": refine, "cpu_s": 2.0, "first_moved_s": first, "goal_s": 0.4, "before": 0.9, "end": 0.99}
        for rest in RESTS_S
        for refine, firsts in ((False, (0.2, 0.3, None)), (True, (0.1, 0.3, 0.2)))
        for first in firsts
    ]
    runs[-1]["goal_s"] = None
    found = summary(runs)
    assert found["reached"] == "3 of 3" and found["goal_s"] == 0.4 and found["end"] == 0.99
    after = found["after a short rest"]
    assert after["pairs"] == 2 and after["ratio"] == 0.75 and after["without"] == 0.25
