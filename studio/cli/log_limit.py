"""Logs errors of one kind at most once a second, with the number of omitted ones."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

NAMES = ("rill", "asyncio", "uvicorn.error")
"""Loggers whose records visitors can cause."""

EVERY_S = 1.0
MOST_KINDS = 256
_VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+|<[^>]*>")


Later = Callable[[float, Callable[[], None]], None]
"""(seconds, function): calls the function after that time."""


def _later(seconds: float, call: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()


@dataclass(slots=True)
class Kind:
    """The time of the last logged record of this kind, the number of omitted ones since, and the last omitted one."""

    at: float
    left_out: int = 0
    last: logging.LogRecord | None = None


class OncePerSecond(logging.Filter):
    """A filter for one logger. A kind is a position in the code and the first line of the message without its numbers.

    The first record of a kind is logged at once. A second later the last one is logged, with the number of records between.
    Records below WARNING pass. An OSError from asyncio is logged without its traceback, which contains only asyncio's code.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic, later: Later = _later) -> None:
        super().__init__()
        self._logger = logger
        self._clock = clock
        self._later = later
        self._lock = threading.Lock()
        self._kinds: OrderedDict[tuple[str, int, str], Kind] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """True if the record is to be logged. Adds the number of omitted records to its message."""
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
                self._later(EVERY_S, lambda: self._log_last(found))
            found.left_out, found.last = found.left_out + 1, record
            return False
        if found is not None and found.left_out > (found.last is record):
            others = found.left_out - (found.last is record)
            record.msg, record.args = f"{record.getMessage()} (and {others} more like this)", ()
        if found is not None:
            found.last = None  # this record is logged now
        self._kinds[kind] = Kind(now)
        self._kinds.move_to_end(kind)
        while len(self._kinds) > MOST_KINDS:
            self._kinds.popitem(last=False)
        return True

    def _log_last(self, kind: Kind) -> None:
        """Log the last omitted record of a kind, unless one has been logged since."""
        if (record := kind.last) is not None:
            self._logger.handle(record)

    def _kind(self, record: logging.LogRecord) -> tuple[str, int, str]:
        first = record.getMessage().partition("\n")[0][:120]
        return record.pathname, record.lineno, _VARYING.sub("#", first)


def limit_logs() -> None:
    """Limit the loggers of NAMES. A second call has no effect."""
    for name in NAMES:
        logger = logging.getLogger(name)
        if not any(isinstance(known, OncePerSecond) for known in logger.filters):
            logger.addFilter(OncePerSecond(logger))
