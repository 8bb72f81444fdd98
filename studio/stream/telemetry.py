"""Statistics of the last second for telemetry: counts, medians, percentiles. Pure: `now` is an argument."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from statistics import median

from studio.wire.protocol import TIMINGS, VERDICTS, AnswerTimings

SAMPLES = 512
"""Most answers in a window; of more, the newest count."""


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which `share` (0..1) of `values` lie, linearly interpolated. NaN for none."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


class Window:
    """One connection's numbers since the last report."""

    def __init__(self, now: float, totals: Mapping[str, int]) -> None:
        self._timings: deque[AnswerTimings] = deque(maxlen=SAMPLES)
        self._queue_ages: deque[float] = deque(maxlen=SAMPLES)
        self.restart(now, totals)

    def restart(self, now: float, totals: Mapping[str, int]) -> None:
        """A new connection: nothing of the one before is reported."""
        self._begin(now, totals)
        self.notes: dict[str, float] = {}
        self.quality: dict[str, float | None] | None = None

    def _begin(self, now: float, totals: Mapping[str, int]) -> None:
        self._since, self._before = now, Counter(totals)
        self._timings.clear()
        self._queue_ages.clear()
        self._bytes_in = self._bytes_out = 0

    def received(self, size: int) -> None:
        """A message of `size` bytes came in."""
        self._bytes_in += size

    def sent(self, size: int) -> None:
        """A message of `size` bytes went out."""
        self._bytes_out += size

    def answered(self, timings: AnswerTimings) -> None:
        """A generated or cached picture went out."""
        self._timings.append(timings)

    def queued(self, age_ms: float) -> None:
        """A step took a frame that had been here for `age_ms`."""
        self._queue_ages.append(age_ms)

    def remark(self, notes: Mapping[str, float]) -> None:
        """Keep measurements by name, where they are finite; at most 32 names."""
        for name, value in notes.items():
            if math.isfinite(value) and (name in self.notes or len(self.notes) < 32):
                self.notes[name] = float(value)

    def report(self, now: float, totals: Mapping[str, int], drops: Mapping[str, int]) -> dict[str, object]:
        """The fields of a telemetry message, but for `sessions`; begins a new window."""
        length = max(now - self._since, 1e-3)
        names = ("received", *VERDICTS)
        counts = {name: totals.get(name, 0) - self._before[name] for name in names}
        report: dict[str, object] = {
            "window_s": round(length, 3),
            "counts": counts,
            "totals": {name: totals.get(name, 0) for name in names},
            "drops": dict(drops),
            "generated_fps": round(counts["generated"] / length, 2),
            "output_fps": round((counts["generated"] + counts["cached"] + counts["skipped"]) / length, 2),
            "stage_ms": self._stage_medians(),
            "queue_age_ms": round(median(self._queue_ages), 2) if self._queue_ages else None,
            "bytes_in_per_s": round(self._bytes_in / length),
            "bytes_out_per_s": round(self._bytes_out / length),
            "quality": self.quality,
            "notes": dict(self.notes),
        }
        self._begin(now, totals)
        return report

    def _stage_medians(self) -> dict[str, float]:
        """Median milliseconds of each stage; empty without a picture."""
        if not self._timings:
            return {}
        return {name: round(median(getattr(timings, name) for timings in self._timings), 2) for name in TIMINGS}
