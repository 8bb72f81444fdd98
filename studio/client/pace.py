"""When a client's next picture may leave. Pure: `now` in seconds is an argument.

The first picture after an answer leaves at once and keeps the session's place in the line. While others have their turns a second
one would only take the first one's place, and be as old when their turn comes: it leaves so that it arrives shortly before.
"""

from __future__ import annotations

import math
from collections import deque

from studio.wire.protocol import Answer

EARLY_STEPS = 1.5
"""Steps before the end of the session's next turn. A client alone, whose turns are a step apart, never waits."""

TURNS = 3
"""The shortest of this many intervals counts: one late turn does not make the next one late."""


class Pace:
    """One client's, from the frames that it sends and the answers that it gets."""

    def __init__(self) -> None:
        self._turns: deque[float] = deque(maxlen=TURNS)
        self._since = 0.0  # of the last answer, or when something came under way again after it
        self._not_before = 0.0

    def sent(self, unsettled: int, now: float) -> None:
        """A picture is sent; `unsettled` were in flight before it."""
        if unsettled == 0:
            self._since = now

    def answered(self, answer: Answer, captured_at: float, now: float) -> None:
        """An answer has come; captured_at: of the frame that it settles, which with several steps is not what it shows."""
        if answer.verdict not in ("generated", "cached"):
            return
        self._turns.append(now - self._since)
        self._since = self._not_before = now
        if len(self._turns) == TURNS:
            step_s, served_s = answer.timings.model / 1000, answer.timings.total / 1000
            travel_s = max(0.0, now - captured_at - served_s)  # both ways
            self._not_before += min(self._turns) - EARLY_STEPS * step_s - travel_s

    def delay(self, unsettled: int, credit: int, now: float) -> float:
        """Seconds until a picture may be sent with `unsettled` in flight: 0 now, infinity when an answer must come first."""
        if unsettled >= credit:
            return math.inf
        return max(0.0, self._not_before - now) if unsettled else 0.0
