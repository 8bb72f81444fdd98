"""One record a second of each kind, and how many were left out."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from studio.cli.log_limit import MOST_KINDS, NAMES, OncePerSecond, limit_logs


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class Logged:
    """A logger with the filter, and a clock by hand; `wait` lets time pass."""

    def __init__(self, name: str = "log-limit") -> None:
        self.now, self.kept, self.logger = 0.0, Kept(), logging.Logger(name)
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.filter = OncePerSecond(
            self.logger, lambda: self.now, lambda seconds, call: self.due.append((self.now + seconds, call))
        )
        self.logger.addFilter(self.filter)
        self.logger.addHandler(self.kept)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        ripe = [call for at, call in self.due if at <= self.now + 1e-9]
        self.due = [(at, call) for at, call in self.due if at > self.now + 1e-9]
        for call in ripe:
            call()


def test_a_flood_of_one_kind_is_a_line_a_second() -> None:
    logged = Logged()
    for number in range(1000):
        logged.logger.error("connection %d failed at 0x%x", number, number * 999)
        logged.wait(1 / 64)
    logged.wait(5)
    assert 15 <= len(logged.kept.lines) <= 18
    assert logged.kept.lines[0] == "connection 0 failed at 0x0" and "more like this)" in logged.kept.lines[1]
    others = [int(line.rpartition("(and ")[2].split()[0]) for line in logged.kept.lines if "(and" in line]
    assert sum(others) + len(logged.kept.lines) == 1000
    assert logged.kept.lines[-1].startswith("connection 999 failed") and logged.due == []


def test_two_in_a_row_are_both_logged() -> None:
    logged = Logged()
    for number in (1, 2):
        logged.logger.error("connection %d failed", number)
    logged.wait(1)
    logged.wait(1)
    assert logged.kept.lines == ["connection 1 failed", "connection 2 failed"]


def test_other_kinds_and_news_are_not_held_back() -> None:
    logged = Logged()
    for _ in range(3):
        logged.logger.error("the disk is full")
        logged.logger.error("the model failed")
        logged.logger.info("session begun")
    assert sorted(logged.kept.lines) == ["session begun"] * 3 + ["the disk is full", "the model failed"]


def test_as_many_kinds_as_a_visitor_can_think_of_take_bounded_memory() -> None:
    logged = Logged()
    for number in range(3 * MOST_KINDS):
        logged.logger.error("".join(chr(97 + number // 26**digit % 26) for digit in range(4)))
    assert len(logged.filter._kinds) == MOST_KINDS


def test_a_system_error_in_asyncio_is_one_line() -> None:
    logged = Logged("asyncio")
    try:
        raise OSError(24, "Too many open files")
    except OSError as error:
        logged.logger.error("socket.accept() out of system resource\nsocket: <x>", exc_info=error)
    assert logged.kept.lines == ["socket.accept() out of system resource: [Errno 24] Too many open files"]


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    logged = Logged("asyncio")
    try:
        raise ValueError("ours")
    except ValueError as error:
        logged.logger.error("Exception in callback", exc_info=error)
    assert "Traceback" in logged.kept.lines[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_loggers_that_visitors_can_reach_are_limited_once(name: str) -> None:
    logger, before = logging.getLogger(name), list(logging.getLogger(name).filters)
    try:
        limit_logs()
        limit_logs()
        assert sum(isinstance(known, OncePerSecond) for known in logger.filters) == 1
    finally:
        for other in NAMES:
            known = logging.getLogger(other)
            known.filters = [kept for kept in known.filters if not isinstance(kept, OncePerSecond)]
        logger.filters = before
