"""The measurement that decides on bfloat16."""

from collections.abc import Callable

import pytest

from benchmarks import clips
from pipelines.graphs.backends import precision

SIZE = 128
CLIP = clips.clip("handheld", SIZE, SIZE)


def test_the_gain_is_that_of_the_fastest_calls_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, took = [0.0], {"single": iter([9, 9, 6, 4, 5]), "half": iter([1, 1, 2, 8, 3])}
    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock[0])

    def call(name: str) -> Callable[[], None]:
        return lambda: clock.__setitem__(0, clock[0] + next(took[name]))

    assert precision.gain(call("single"), call("half"), rounds=3) == 4 / 2
