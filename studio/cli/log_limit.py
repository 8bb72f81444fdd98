"""Errors of one kind are logged once a second at most, with the number of those that were left out."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

NAMES = ("rill", "asyncio", "uvicorn.error")
"""Loggers that visitors can make write."""

EVERY_S = 1.0
MOST_KINDS = 256
_VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+|<[^>]*>")


Later = Callable[[float, Callable[[], None]], None]
"""Calls a function after so many seconds."""


def _later(seconds: float, call: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()


@dataclass(slots=True)
class Kind:
    """When a record of this kind was last logged, how many have been left out since, and the last of them."""

    at: float
    left_out: int = 0
    last: logging.LogRecord | None = None


class OncePerSecond(logging.Filter):
    """A filter for one logger. A kind is a place in the code, and the first line of the message without its numbers.

    The first record of a kind is logged at once, and a second later the last one with the number of those between. Records below
    WARNING pass. An OSError that asyncio reports is logged without its traceback, which shows nothing but asyncio.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic, later: Later = _later) -> None:
        super().__init__()
        self._logger = logger
        self._clock = clock
        self._later = later
        self._lock = threading.Lock()
        self._kinds: OrderedDict[tuple[str, int, str], Kind] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """True if the record is to be logged; it names those that were left out before it."""
        if record.levelno < logging.WARNING:
            return True
        if record.name == "asyncio" and record.exc_info and isinstance(record.exc_info[1], OSError):
            record.msg, record.args = f"{record.getMessage().splitlines()[0]}: {record.exc_info[1]}", ()
            record.exc_info = None
        with self._lock:
            return self._judge(record)

    def _judge(self, record: logging.LogRecord) -> bool:
        now, kind = self._clock(), self._kind(record)
        found = self._kinds.get(kind)
        if found is not None and now - found.at < EVERY_S:
            if found.last is None:
                self._later(EVERY_S, lambda: self._say(found))
            found.left_out, found.last = found.left_out + 1, record
            return False
        if found is not None and found.left_out > (found.last is record):
            others = found.left_out - (found.last is record)
            record.msg, record.args = f"{record.getMessage()} (and {others} more like this)", ()
        if found is not None:
            found.last = None  # nothing is left to say of that one
        self._kinds[kind] = Kind(now)
        self._kinds.move_to_end(kind)
        while len(self._kinds) > MOST_KINDS:
            self._kinds.popitem(last=False)
        return True

    def _say(self, kind: Kind) -> None:
        """Log the last record of a kind that was left out, if none has been logged since."""
        if (record := kind.last) is not None:
            self._logger.handle(record)

    def _kind(self, record: logging.LogRecord) -> tuple[str, int, str]:
        first = record.getMessage().partition("\n")[0][:120]
        return record.pathname, record.lineno, _VARYING.sub("#", first)


def limit_logs() -> None:
    """Limit the loggers of NAMES; calling it again changes nothing."""
    for name in NAMES:
        logger = logging.getLogger(name)
        if not any(isinstance(known, OncePerSecond) for known in logger.filters):
            logger.addFilter(OncePerSecond(logger))
