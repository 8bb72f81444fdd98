"""Which graphs are ready, and which of them leave so that all together stay within a number of bytes.

Least recently used leaves first; never one that a running step uses, nor one that is needed (by the sessions present), nor one
that is always kept. Where those fill the budget, nothing more is built: nothing is evicted only to be built again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from typing import Generic, TypeVar

from pipelines.graphs.backends.base import Graph

log = logging.getLogger("rill")

K = TypeVar("K", bound=Hashable)


def to_evict(sizes: Mapping[K, int], used: Mapping[K, int], stay: Set[K], wanted: int, budget: int) -> list[K] | None:
    """Graphs to evict, least recently used first, so that `wanted` bytes fit beside the rest; None if they never do. Pure.

    sizes: bytes of those that count. used: a number that grows with each use. stay: who cannot leave.
    """
    total, gone = sum(sizes.values()) + wanted, []
    for key in sorted(sizes.keys() - stay, key=lambda one: used.get(one, 0)):
        if total <= budget:
            break
        total -= sizes[key]
        gone.append(key)
    return gone if total <= budget else None


class ReadyGraphs(Generic[K]):
    """Graphs by key. One thread at a time adds, another takes and steps; `need` may be called in any thread.

    kept: for which keys a graph is always kept, and does not count. budget: bytes of all others; None is no limit.
    """

    def __init__(self, kept: Callable[[K], bool], budget: int | None = None) -> None:
        self.budget = budget
        self._kept = kept
        self._graphs: dict[K, Graph] = {}  # never changed, only replaced, so that a reader in another thread sees all of it
        self._stepping: dict[K, Graph] = {}  # those that the running step began with
        self._sizes: dict[K, int] = {}  # of those that count
        self._used: dict[K, int] = {}
        self._uses = 0
        self._needed: frozenset[K] = frozenset()
        self._refused: frozenset[K] = frozenset()

    def __contains__(self, key: object) -> bool:
        return key in self._graphs

    @property
    def bytes(self) -> int:
        """What those take that count."""
        return sum(self._sizes.values())

    @contextmanager
    def step(self) -> Iterator[None]:
        """What is ready now stays until the end, whatever is evicted meanwhile."""
        self._stepping = self._graphs
        try:
            yield
        finally:
            self._stepping = {}

    def take(self, key: K) -> Graph:
        """The graph, to be used now. KeyError if there is none."""
        self._uses += 1
        self._used[key] = self._uses
        graph = self._graphs.get(key)
        return self._stepping[key] if graph is None else graph

    def has(self, key: K) -> bool:
        """Whether a running step can take it."""
        return key in self._graphs or key in self._stepping

    def need(self, keys: Iterable[K]) -> None:
        """These are needed from now on, and no others."""
        needed = frozenset(keys)
        if needed != self._needed:
            self._needed, self._refused = needed, frozenset()

    def fits(self, key: K, size: int, ahead: bool = False) -> bool:
        """Whether `room` would make room."""
        return self.budget is None or self._kept(key) or self._to_evict(size, ahead) is not None

    def room(self, key: K, size: int, ahead: bool = False) -> bool:
        """Make room for a graph of about `size` bytes; False where that cannot be done, which is reported.

        ahead: no session needs it yet, so nothing is evicted for it.
        """
        if self.budget is None or self._kept(key):
            return True
        gone = self._to_evict(size, ahead)
        if gone is None:
            if not ahead and key not in self._refused:
                self._refused |= {key}
                log.warning(
                    "%s is not built: it takes about %d MB of %d MB for graphs, which those in use fill; others do its work",
                    *(key, size // 1_000_000, self.budget // 1_000_000),
                )
            return False
        for one in gone:
            log.info("%s leaves: another graph takes its memory", one)
            self.remove(one)
        return True

    def add(self, key: K, graph: Graph, size: int) -> None:
        """`size` in bytes."""
        self._uses += 1
        self._used[key] = self._uses
        if not self._kept(key):
            self._sizes[key] = size
        self._graphs = {**self._graphs, key: graph}

    def clear(self) -> None:
        self._graphs, self._stepping = {}, {}
        self._sizes.clear()
        self._used.clear()

    def _to_evict(self, size: int, ahead: bool) -> list[K] | None:
        sizes = dict(self._sizes)
        return to_evict(sizes, dict(self._used), sizes.keys() if ahead else self._needed, size, self.budget or 0)

    def remove(self, key: K) -> None:
        """A running step keeps it until its end."""
        self._sizes.pop(key, None)
        self._graphs = {one: graph for one, graph in self._graphs.items() if one != key}
