"""Work that a pool of threads does one piece after the other, in the order in which it was given."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class InTurn:
    """Takes work from any thread. `submit` gives a pool the draining of the queue; at most one thread drains at a time. On a busy
    machine a picture could else be overtaken by the next while both are packed, and be lost.
    """

    def __init__(self, submit: Callable[[Callable[[], None]], None]) -> None:
        self._submit = submit
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._draining = False

    def add(self, work: Callable[[], None]) -> None:
        """Queue a piece of work, and have the pool drain the queue unless it does so already."""
        with self._lock:
            self._waiting.append(work)
            if self._draining:
                return
            self._draining = True
        self._submit(self._drain)

    def _drain(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except BaseException:
                self._go_on()
                raise

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._draining = False
            return None

    def _go_on(self) -> None:
        """A piece of work failed: what waits behind it is drained all the same."""
        with self._lock:
            self._draining = bool(self._waiting)
            if not self._draining:
                return
        self._submit(self._drain)
