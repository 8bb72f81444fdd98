"""On which device a new session is placed. Pure.

What counts is the time that a device needs for one frame of each of its sessions: a device that is slower, or whose sessions need
for more rows, fills sooner. A session stays where it is placed: its state lies on that device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """sessions: placed on a device. known: those of them that have been served; seconds: one frame of each of these, together."""

    sessions: int
    known: int
    seconds: float


def least_loaded(loads: Sequence[Load]) -> int:
    """The device that would need the least time for one frame of each of its sessions, the new one included.

    A session that has not been served yet is taken for the mean of its device, or of all where its device has served none. Among
    equals the one with fewer sessions, then the first. Raises ValueError without devices.
    """
    known = sum(load.known for load in loads)
    mean = sum(load.seconds for load in loads) / known if known else 1.0

    def with_another(load: Load) -> float:
        own = load.seconds / load.known if load.known else mean
        return load.seconds + (load.sessions - load.known + 1) * own

    return min(range(len(loads)), key=lambda index: (with_another(loads[index]), loads[index].sessions, index))
