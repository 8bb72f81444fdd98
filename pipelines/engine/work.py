"""What a step does, counted: rows by call."""

from __future__ import annotations

from collections import Counter

from pipelines.techniques.feature_cache import Kind
from pipelines.values.types import StageTimings

Pass = tuple[Kind, bool]
"""(kind of pass, whether a ControlNet has a say)."""

Call = tuple[Pass, int]
"""(kind of pass, UNet calls before it in the step): rows of one call are computed together."""

Work = Counter[Call]
"""Rows by call, in the order in which they are computed."""

ENCODE: Call = ((("encode", None), False), 0)
DECODE: Call = ((("decode", None), False), 0)
PAINT: Call = ((("paint", None), False), 0)
"""The pictures around the UNet's calls: painted ones are not among those that are only decoded."""


def stages(work: Work, timings: StageTimings) -> list[tuple[Work, float]]:
    """What each stage of a step did, and the seconds that it took."""
    of = {ENCODE: "encode", DECODE: "decode", PAINT: "decode"}
    done: dict[str, Work] = {}
    for call, rows in work.items():
        done.setdefault(of.get(call, "denoise"), Counter())[call] += rows
    return [(rows, getattr(timings, stage) / 1000) for stage, rows in done.items()]
