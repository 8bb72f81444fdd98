"""How a stream moves work from one thread to another: to the event loop, or to the codec pool."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial

log = logging.getLogger("rill")


class Dispatcher:
    """One stream's. Any thread may call it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Executor, session: str) -> None:
        self._loop, self._pool, self._session = loop, pool, session

    def to_loop(self, work: Callable[..., None], *arguments: object) -> None:
        """Call `work` on the event loop; nothing happens once the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(partial(work, *arguments))

    def to_pool(self, work: Callable[..., None], *arguments: object, on_error: Callable[[], None]) -> None:
        """Call `work` in the codec pool. If it raises, the error is logged and `on_error` is called on the event loop.

        Nothing happens once the pool has been shut down.
        """

        def finished(future: Future[None]) -> None:
            if not future.cancelled() and (error := future.exception()) is not None:
                log.error("session %s: %s failed", self._session, getattr(work, "__name__", work), exc_info=error)
                self.to_loop(on_error)

        try:
            self._pool.submit(work, *arguments).add_done_callback(finished)
        except RuntimeError:  # the pool has been shut down
            log.debug("session %s: the server stops, and a frame is discarded", self._session)
