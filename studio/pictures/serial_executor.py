"""Work that a pool of threads does one piece after the other, in the order in which it was submitted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class SerialExecutor:
    """Takes work from any thread and gives it to a pool, one piece at a time. In a pool of several threads a picture could be
    overtaken by the next one while both are compressed, and be lost.

    run: has a thread of the pool call a function.
    """

    def __init__(self, run: Callable[[Callable[[], None]], None]) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._draining = False

    def submit(self, work: Callable[[], None]) -> None:
        """Queue a piece of work; a thread of the pool drains the queue."""
        with self._lock:
            self._waiting.append(work)
            if self._draining:
                return
            self._draining = True
        self._run(self._drain)

    def _drain(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except BaseException:
                self._drain_rest()
                raise

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._draining = False
            return None

    def _drain_rest(self) -> None:
        """A piece of work has failed; what waits behind it is still done."""
        with self._lock:
            self._draining = bool(self._waiting)
            if not self._draining:
                return
        self._run(self._drain)
