"""Prometheus counters: one registry per app, and counts that are added once."""

from __future__ import annotations

from studio.stream.metrics import Metrics
from studio.wire.protocol import TIMINGS, AnswerTimings


def test_metrics_have_a_registry_of_their_own() -> None:
    one, two = Metrics(), Metrics()
    one.watch("rill_test", "Help.", lambda: 3.0)
    one.count({"generated": 1}, {"generated": 4, "received": 9}, one.frames)
    one.timings(AnswerTimings(*[5.0] * len(TIMINGS)))
    text = one.text().decode()
    assert 'rill_frames_total{verdict="generated"} 3.0' in text and "rill_test 3.0" in text and "received" not in text
    assert 'rill_stage_seconds_sum{stage="denoise"} 0.005' in text
    assert "rill_test" not in two.text().decode()


def test_a_session_adds_only_what_is_new() -> None:
    metrics = Metrics()
    metrics.count({}, {"stale": 2}, metrics.drops)
    metrics.count({"stale": 2}, {"stale": 2, "credit": 1}, metrics.drops)
    text = metrics.text().decode()
    assert 'rill_frames_dropped_total{reason="stale"} 2.0' in text and 'reason="credit"} 1.0' in text
