"""One graph at a time in a process: tracing patches torch while it runs, and compilers keep state of their own.

Two threads that converted at once failed, 3 of 3 times, with a RuntimeError. So the turn belongs to the backend's `build`, which
no backend overrides; each implements `_build`.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import final

from torch import Tensor, nn

from pipelines.graphs.backends.base import Graph, Samples


class FairLock:
    """A lock for one thread at a time, which may take it again. The thread that waits longest is next: a queue of
    graphs would otherwise keep all other threads out until its end."""

    def __init__(self) -> None:
        self._next, self._lock = threading.Lock(), threading.Lock()
        self._owner: int | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        me = threading.get_ident()
        if self._owner == me:
            yield
            return
        with self._next:
            self._lock.acquire()
        self._owner = me
        try:
            yield
        finally:
            self._owner = None
            self._lock.release()


_LOCK = FairLock()


class Builder(ABC):
    """What all backends build with."""

    @final
    def build(
        self,
        key: str,
        make: Callable[[], nn.Module],
        example: Sequence[Tensor],
        samples: Samples | None = None,
        lanes: int = 1,
    ) -> Graph:
        """As `Backend.build`. Waits while another thread of the process builds."""
        with build_lock():
            return self._build(key, make, example, samples, lanes)

    def lanes(self, rows: int, cells: int, weights: int) -> int:
        """As `Backend.lanes`: a call is one."""
        return 1

    @final
    def encoder(self, key: str, make: Callable[[], nn.Module], example: Sequence[Tensor]) -> Graph:
        """As `Backend.encoder`. Waits while another thread of the process builds."""
        with build_lock():
            return self._encoder(key, make, example)

    def _encoder(self, key: str, make: Callable[[], nn.Module], example: Sequence[Tensor]) -> Graph:
        return make().float().eval()

    def kept(self, key: str, make: Callable[[], bytes]) -> bytes:
        """As `Backend.kept`: nothing is kept on disk."""
        return make()

    def portable(self, key: str, calibrated: bool) -> bool:
        """As `Backend.portable`: nothing is kept on disk."""
        return False

    @abstractmethod
    def _build(
        self, key: str, make: Callable[[], nn.Module], example: Sequence[Tensor], samples: Samples | None, lanes: int
    ) -> Graph: ...


build_lock = _LOCK.held
"""The lock, for what belongs to a graph besides its building: weights that are read, an example of its inputs."""
