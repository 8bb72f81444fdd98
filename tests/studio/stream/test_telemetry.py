"""Windows of numbers and token buckets: pure, with time as an argument."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from studio.stream.telemetry import Window, percentile
from studio.wire.limits import Limits, TokenBucket
from studio.wire.protocol import TIMINGS, AnswerTimings


def test_a_window_reports_itself_and_begins_anew() -> None:
    window = Window(10.0, {"generated": 5})
    window.received(1000)
    window.sent(4000)
    window.queued(3.0)
    for value in (1.0, 2.0, 9.0):
        window.answered(AnswerTimings(*[value] * len(TIMINGS)))
    window.remark({"eta": 0.5, "bad": math.nan})
    report = window.report(12.0, {"generated": 8, "cached": 1, "skipped": 4, "received": 9}, {"stale": 1})
    assert report["counts"] == dict.fromkeys(report["counts"], 0) | {"generated": 3, "cached": 1, "skipped": 4, "received": 9}  # type: ignore[call-overload]
    assert (report["generated_fps"], report["output_fps"]) == (1.5, 4.0)
    assert report["bytes_in_per_s"] == 500 and report["bytes_out_per_s"] == 2000
    assert report["stage_ms"] == dict.fromkeys(TIMINGS, 2.0) and report["queue_age_ms"] == 3.0
    assert report["notes"] == {"eta": 0.5} and report["drops"] == {"stale": 1}
    again = window.report(13.0, {"generated": 8, "cached": 1, "skipped": 4, "received": 9}, {"stale": 1})
    assert again["generated_fps"] == again["output_fps"] == 0 and again["stage_ms"] == {} and again["queue_age_ms"] is None
    json.dumps([report, again], allow_nan=False)


def test_remarks_are_bounded() -> None:
    window = Window(0.0, {})
    for number in range(1000):
        window.remark({f"n{number}": 1.0})
    assert len(window.notes) == 32


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_percentiles_lie_within(values: list[float], share: float) -> None:
    assert min(values) <= percentile(values, share) <= max(values)
    assert percentile(values, 0.0) == min(values) and percentile(values, 1.0) == max(values)


def test_percentiles_of_nothing_and_between() -> None:
    assert math.isnan(percentile([], 0.5)) and percentile([1.0, 2.0], 0.5) == 1.5


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 5)), max_size=60))
def test_a_bucket_never_gives_more_than_rate_and_size_allow(moves: list[tuple[float, float]]) -> None:
    bucket, now, given_out = TokenBucket(10.0, 20.0), 0.0, 0.0
    for wait, amount in moves:
        now += wait
        if bucket.take(amount, now):
            given_out += amount
    assert given_out <= 20.0 + 10.0 * now + 1e-6


def test_a_bucket_fills_up_again_and_survives_a_clock_that_goes_back() -> None:
    bucket = TokenBucket(1.0, 2.0)
    assert bucket.take(2, 0.0) and not bucket.take(1, 0.5) and bucket.take(1, 1.0)
    assert not bucket.take(1, 0.0) and not bucket.take(1, 0.5) and bucket.take(1, 1.5)


def test_public_limits_are_those_that_a_client_needs() -> None:
    assert Limits(credit=2).public()["credit"] == 2 and "max_sessions" not in Limits().public()
