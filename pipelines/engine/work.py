"""What a step does, counted: rows by call. And which step the milliseconds of the device belong to."""

from __future__ import annotations

from collections import Counter, deque

from pipelines.engine.rows import Row
from pipelines.techniques.feature_cache import Kind
from pipelines.values.types import StageTimings

Pass = tuple[Kind, bool]
"""(kind of pass, whether a ControlNet takes part)."""

Call = tuple[Pass, int]
"""(kind of pass, number of UNet calls before it in the step): rows of one call are computed together."""

Work = Counter[Call]
"""Rows by call, in the order in which they are computed."""


def of_pictures(part: str) -> Call:
    """The call of a graph around the UNet's."""
    return ((part, None), False), 0


ENCODE, ENCODE_WINDOW = of_pictures("encode"), of_pictures("encode-window")
DECODE, PAINT = of_pictures("decode"), of_pictures("paint")
"""The pictures around the UNet's calls. Painted ones are not among those that are only decoded."""

STAGES = {ENCODE: "encode", ENCODE_WINDOW: "encode", DECODE: "decode", PAINT: "decode"} | {
    of_pictures(part): "decode" for part in ("decode-window", "paint-keeping", "paint-window")
}
"""The stages of these; all other calls are the UNet's."""

RECENT = 8
"""Steps whose work is known; more than a device has under way."""


def call(row: Row, control_scale: float, position: int) -> Call:
    """The call that a row belongs to, at this position among the UNet calls of a step."""
    return (row.kind, row.controlled(control_scale)), position


def by_stage(work: Work, timings: StageTimings) -> list[tuple[Work, float]]:
    """The work of each stage of a step, with the seconds that the stage took."""
    done: dict[str, Work] = {}
    for one, rows in work.items():
        done.setdefault(STAGES.get(one, "denoise"), Work())[one] += rows
    return [(rows, getattr(timings, stage) / 1000) for stage, rows in done.items()]


class WorkLog:
    """Matches timings with the work of the step that took them: on CUDA an earlier step than the one launched last."""

    def __init__(self) -> None:
        self._recent: deque[Work] = deque(maxlen=RECENT)
        self._unmeasured = 0

    def add(self, work: Work, timings: StageTimings, lag: int) -> list[tuple[Work, float]] | None:
        """A step was launched, and these are the timings of the step `lag` before it (see Transfer.lag). Returns the work and the
        seconds of each stage of that step; None if no other step has ended since the last call."""
        self._recent.append(work)
        self._unmeasured += 1
        if not 0 <= lag < self._unmeasured:
            return None
        self._unmeasured = lag
        return by_stage(self._recent[-1 - lag], timings)
