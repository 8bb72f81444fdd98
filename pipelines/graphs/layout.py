"""How the rows of a call are laid over static graphs, each of which takes one number of rows. Pure.

On a CPU a batch is split, since a padded row costs as much as a real one. A large GPU is not filled by a few rows, so there a
call costs as much as some rows do whatever it holds, and a padded call may be cheaper than two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def split(count: int, ready: Sequence[int]) -> list[int]:
    """`count` rows as a list of ready sizes, largest first, none of them padded. Size 1 must be among them."""
    sizes: list[int] = []
    for size in sorted(ready, reverse=True):
        while count >= size:
            sizes.append(size)
            count -= size
    return sizes


def cover(count: int, ready: Sequence[int], per_call: float) -> list[int]:
    """Ready sizes, largest first, that hold at least `count` rows at the least cost; the last one may be padded.

    A call of n rows costs per_call + n. Of equally cheap ways the one with fewer calls is taken.
    """
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for rows in range(1, count + 1):
        ways = ((best[max(rows - size, 0)], size) for size in ready)
        found = [(cost + per_call + size, len(sizes), sizes, size) for (cost, sizes), size in ways]
        cost, _, sizes, size = min(found)
        best.append((cost, [*sizes, size]))
    return sorted(best[count][1], reverse=True)


@dataclass(frozen=True, slots=True)
class Layout:
    """The sizes that graphs are built for, and how rows are laid over those that are ready. per_call: what a call costs beside
    its rows, in rows; None where rows are never padded."""

    buckets: tuple[int, ...]
    per_call: float | None = None

    def lay(self, count: int, ready: Sequence[int]) -> list[int]:
        """Sizes of the calls for `count` rows. Size 1 must be ready where rows are not padded, any size where they are."""
        return split(count, ready) if self.per_call is None else cover(count, ready, self.per_call)

    def wanted(self, rows: int) -> tuple[int, ...]:
        """The sizes that so many rows would use, and 1, with which a single row is not padded."""
        return tuple(sorted({*self.lay(rows, self.buckets), 1}))


ON_CPU = Layout((1, 2))
"""One row on all cores, or two rows beside each other on half of the cores each (`backends.openvino`). More rows are pairs: a
graph of four rows was no faster (pocket, 512x512, OpenVINO, two cores of an AMD EPYC, medians in ms: 98.2 and as two pairs 99.6;
three rows 77.6 and as a pair and one 78.5), and each graph costs memory and ten seconds of building."""

ON_GPU = Layout((1, 2, 4, 8, 16, 32), per_call=2.0)
"""per_call is a guess until `app.py bench --gpu` has run on a GPU: it reports the UNet's milliseconds at each size, and what they
amount to."""
