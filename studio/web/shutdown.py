"""The end of a server process: SIGTERM and SIGINT, with a bound on how long it takes.

Native code cannot be interrupted: a thread that compiles graphs or loads a model goes on for up to a minute, and Python waits for
it. So the process ends hard once the connections are closed and everything is saved, or when the time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

log = logging.getLogger("rill")

CODES = {signal.SIGTERM: 0, signal.SIGINT: 130}
"""Exit codes. SIGTERM is the regular way to end a service, so that is no failure."""

END_S = 4.0
"""From the signal to the hard end."""


class Server(uvicorn.Server):
    """uvicorn's server without signal handlers of its own (those of `Shutdown` stand)."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Shutdown:
    """`handled` is a context in which the signals end `server`, once there is one, and before that the process."""

    def __init__(self, leave: Callable[[int], None] = os._exit, end_s: float = END_S) -> None:
        self.server: uvicorn.Server | None = None
        self.code = 0
        self._signalled = False
        self._leave = leave
        self._end_s = end_s

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Main thread only."""
        before = {number: signal.signal(number, self.receive) for number in CODES}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """A signal: the first one begins the end, the second one is the end."""
        self.code = CODES[signal.Signals(number)]
        if self._signalled or self.server is None:
            self.end_hard()
            return
        self._signalled = True
        self.server.should_exit = True
        timer = threading.Timer(self._end_s, self.end_hard)
        timer.daemon = True
        timer.start()

    def end_hard(self) -> None:
        """End the process with `code`, whatever its threads do."""
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        self._leave(self.code)

    def finish(self) -> int:
        """The exit code; with threads that are still busy the process ends here and now."""
        if busy := [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]:
            log.debug("threads that are still busy: %s", ", ".join(busy))
            self.end_hard()
        return self.code


async def in_own_thread(work: Callable[[], None], seconds: float) -> None:
    """Run `work`, and raise what it raises. After `seconds` it goes on alone, and its thread is not joined."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        done.set_result(None) if error is None else done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, name="rill-close", daemon=True).start()
    await asyncio.wait([done], timeout=seconds)
    if not done.done():
        log.warning("the model's threads are still busy after %g s; the server ends without them", seconds)
        return
    done.result()
