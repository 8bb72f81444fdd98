"""What is built beside the stream: one thread, and a queue with one request per session.

A session's new request replaces its older one; sessions take turns, one piece of work each; a session that ends takes its
request along. What is built ahead of need comes when no session waits, and only while it may.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

log = logging.getLogger("rill")

W = TypeVar("W")

REST_S = 30.0


@dataclass(slots=True)
class BuildRequest(Generic[W]):
    """work: as requested; left: what is still to be done. done: set when it has ended in any way."""

    work: tuple[W, ...]
    left: list[W]
    done: Future[None]

    def end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class BuildQueue(Generic[W]):
    """`build` is called in the queue's thread, one piece of work after the other; its errors are logged. Methods: any thread.

    may_idle: whether work that no session waits for may be done now. interrupt: called, with the queue locked, when the present
    piece of work is no longer wanted, or when it is ahead of need and a session waits; it is done again later. rest: called in
    the queue's thread when there has been nothing to do for REST_S.
    """

    def __init__(
        self,
        build: Callable[[W], object],
        may_idle: Callable[[], bool] = lambda: True,
        interrupt: Callable[[], None] = lambda: None,
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self._build, self._may_idle, self._interrupt, self._rest = build, may_idle, interrupt, rest
        self._present: tuple[str | None, W] | None = None  # session and its work in progress; None: ahead of need
        self._wake = threading.Condition()
        self._requests: dict[str, BuildRequest[W]] = {}  # in the order of their turns
        self._ahead: list[W] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="rill-builder", daemon=True)
        self._thread.start()

    def request(self, session: str, work: Sequence[W]) -> Future[None]:
        """Do this for a session, instead of its earlier request. The Future ends with the work, or when it is dropped."""
        with self._wake:
            waiting = self._requests.get(session)
            if waiting is not None and waiting.work == tuple(work):
                return waiting.done  # a slider sends the same request many times
            if waiting is not None:
                waiting.end()
            self._overtake(session, work)
            request = BuildRequest(tuple(work), list(work), Future())
            if work and not self._closed:
                self._requests[session] = request  # in its old turn, if it had one
                self._wake.notify()
            else:
                self._requests.pop(session, None)
                request.end()
            return request.done

    def revise(self, session: str, work: Sequence[W]) -> None:
        """The session's work has changed with the other sessions. A Future of `request` ends with the new work."""
        with self._wake:
            waiting = self._requests.get(session)
            if self._closed or (waiting is None and not work) or (waiting is not None and waiting.work == tuple(work)):
                return
            self._overtake(session, work)
            if work:
                self._requests[session] = BuildRequest(tuple(work), list(work), Future() if waiting is None else waiting.done)
                self._wake.notify()
            elif waiting is not None:
                self._requests.pop(session).end()

    def ahead(self, work: Sequence[W]) -> None:
        """Do this while no session waits, instead of earlier work of this kind."""
        with self._wake:
            self._ahead = list(work)
            self._wake.notify()

    def recheck(self) -> None:
        """The result of `may_idle` may have changed."""
        with self._wake:
            self._wake.notify()

    def drop(self, session: str) -> None:
        """The session has ended: the rest of its request is not done."""
        with self._wake:
            request = self._requests.pop(session, None)
            if request is not None:
                request.end()
            self._overtake(session, ())

    def close(self, timeout_s: float) -> bool:
        """End after the present piece of work. False if that takes longer: the thread keeps no process alive."""
        with self._wake:
            self._closed = True
            for request in self._requests.values():
                request.end()
            self._requests.clear()
            self._ahead.clear()
            self._interrupt()
            self._wake.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _overtake(self, session: str, work: Sequence[W]) -> None:
        """This work of a session replaces its present work."""
        if self._present is None:
            return
        owner, doing = self._present
        if owner is None and work and doing not in work:
            self._ahead.insert(0, doing)
        elif owner != session or doing in work:
            return
        self._present = None
        self._interrupt()

    def _next(self) -> tuple[str, BuildRequest[W] | None, W] | None:
        """The next piece of work with its session; blocks until there is one. None at the end."""
        with self._wake:
            while not self._closed:
                if self._requests:
                    session = next(iter(self._requests))
                    request = self._requests.pop(session)
                    self._requests[session] = request  # behind all others
                    self._present = session, request.left.pop(0)
                    return session, request, self._present[1]
                if self._ahead and self._may_idle():
                    self._present = None, self._ahead.pop(0)
                    return "", None, self._present[1]
                if not self._wake.wait(REST_S):
                    self._rest()
            return None

    def _run(self) -> None:
        while self._work_on():
            pass  # between two pieces this thread holds none, nor the pipeline that it is for

    def _work_on(self) -> bool:
        """Do the next piece of work. False at the end."""
        found = self._next()
        if found is None:
            return False
        session, request, work = found
        try:
            self._build(work)
        except Exception:  # a compiler may fail in any way; others wait for the rest
            log.exception("a graph cannot be built: %s", work)
        with self._wake:
            self._present = None
            if request is not None and not request.left:
                request.end()
                if self._requests.get(session) is request:
                    del self._requests[session]
        return True
