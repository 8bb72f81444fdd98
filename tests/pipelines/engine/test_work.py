"""Rows by call, and whose time is whose."""

from collections import Counter

import pytest
import torch

from pipelines.engine.rows import Row
from pipelines.engine.work import DECODE, ENCODE, PAINT, RECENT, Work, WorkLog, by_stage, call
from pipelines.techniques.stream_batch import InFlight
from pipelines.values.types import StageTimings

FULL = call(Row(InFlight(0, torch.zeros(1), None, (1,))), 1.0, 0)
TIMINGS = StageTimings(encode=1.0, denoise=2.0, decode=3.0)


def test_a_call_is_the_kind_of_pass_and_its_position() -> None:
    assert FULL == ((("full", None), False), 0)
    hinted = Row(InFlight(0, torch.zeros(1), None, (1,), hint=torch.zeros(1)), kind=("shallow", 1))
    assert call(hinted, 0.5, 2) == ((("shallow", 1), True), 2) and call(hinted, 0.0, 2) == ((("shallow", 1), False), 2)


def test_the_work_of_each_stage_stands_beside_its_seconds() -> None:
    work = Work({ENCODE: 2, FULL: 3, PAINT: 1, DECODE: 1})
    assert by_stage(work, TIMINGS) == [
        (Counter({ENCODE: 2}), 0.001),
        (Counter({FULL: 3}), 0.002),
        (Counter({PAINT: 1, DECODE: 1}), 0.003),
    ]
    assert by_stage(Work(), TIMINGS) == []


def steps(*lags: int) -> list[int | None]:
    """Which step (its number of rows) each call of `add` matched with the timings."""
    log, found = WorkLog(), []
    for number, lag in enumerate(lags, 1):
        measured = log.add(Work({FULL: number}), TIMINGS, lag)
        found.append(None if measured is None else measured[0][0].total())
    return found


@pytest.mark.parametrize(
    ("lags", "matched"),
    [
        ((0, 0, 0), [1, 2, 3]),
        ((-1, 1, 1, 1), [None, 1, 2, 3]),
        ((-1, 1, 2, 3), [None, 1, None, None]),
        ((0, 1, 1), [1, None, 2]),
        ((-1, -1, 0), [None, None, 3]),
    ],
)
def test_timings_meet_the_step_that_took_them_once(lags: tuple[int, ...], matched: list[int | None]) -> None:
    assert steps(*lags) == matched


def test_more_steps_than_a_device_has_under_way_are_known() -> None:
    assert steps(*[-1] * (RECENT - 1), RECENT - 1)[-1] == 1
