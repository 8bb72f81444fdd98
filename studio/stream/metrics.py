"""Counters for Prometheus. Each app has a registry of its own; no label names a visitor, a prompt or a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from studio.wire.protocol import TIMINGS, AnswerTimings

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The studio's metrics; safe from any thread."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.frames = Counter("rill_frames", "Answers by verdict.", ["verdict"], registry=self._registry)
        self.drops = Counter("rill_frames_dropped", "Dropped frames by reason.", ["reason"], registry=self._registry)
        self.refusals = Counter("rill_refusals", "Connections refused or closed, by cause.", ["code"], registry=self._registry)
        self.errors = Counter("rill_errors", "Error messages sent, by code.", ["code"], registry=self._registry)
        self.bytes = Counter("rill_bytes", "Bytes of websocket messages.", ["direction"], registry=self._registry)
        self.stages = Histogram(
            "rill_stage_seconds", "Time per frame and stage.", ["stage"], buckets=_SECONDS, registry=self._registry
        )
        self.batch = Histogram(
            "rill_step_sessions", "Sessions served by one step.", buckets=(1, 2, 4, 8, 16), registry=self._registry
        )
        self._stage = [self.stages.labels(stage) for stage in TIMINGS]

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """A gauge whose value is read at each scrape."""
        Gauge(name, help_text, registry=self._registry).set_function(value)

    def timings(self, timings: AnswerTimings) -> None:
        """One picture's times."""
        for stage, value in zip(self._stage, timings.values(), strict=True):
            stage.observe(value / 1000)

    def count(self, before: Mapping[str, int], after: Mapping[str, int], counter: Counter) -> None:
        """Add the difference between two states of a session's totals to a counter."""
        for name, value in after.items():
            if name != "received" and value > before.get(name, 0):
                counter.labels(name).inc(value - before.get(name, 0))

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        return generate_latest(self._registry)
