"""NSGA-II, the evolutionary search of a Pareto front (Deb, Pratap, Agarwal, Meyarivan 2002). Pure: the random source is injected.

Of two points one dominates the other if no objective of it is larger and one is smaller; all are minimised. Points are sorted
into fronts: the first is dominated by none, the next only by those before. Within a front, those in sparser places are kept: the
crowding distance is the sum over objectives of the gap between a point's two neighbours, as a share of the whole range.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

Point = tuple[float, ...]
Gene = TypeVar("Gene")


def dominates(a: Point, b: Point) -> bool:
    """Whether a is nowhere worse than b, and better somewhere."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def fronts(points: Sequence[Point]) -> list[list[int]]:
    """Indices of the points by front, the best first."""
    left, found = list(range(len(points))), []
    while left:
        best = [i for i in left if not any(dominates(points[j], points[i]) for j in left)]
        found.append(best)
        left = [i for i in left if i not in best]
    return found


def crowding(points: Sequence[Point]) -> list[float]:
    """Crowding distance of each point of one front; infinite at its ends."""
    distance = [0.0] * len(points)
    for axis in range(len(points[0]) if points else 0):
        order = sorted(range(len(points)), key=lambda i: points[i][axis])
        width = points[order[-1]][axis] - points[order[0]][axis]
        distance[order[0]] = distance[order[-1]] = math.inf
        for before, i, after in zip(order, order[1:], order[2:], strict=False):
            distance[i] += (points[after][axis] - points[before][axis]) / width if width else 0.0
    return distance


def survivors(points: Sequence[Point], count: int) -> list[int]:
    """The `count` points that go on: whole fronts, the best first, then the sparsest of the next front."""
    kept: list[int] = []
    for front in fronts(points):
        sparse = crowding([points[i] for i in front])
        kept += [front[i] for i in sorted(range(len(front)), key=lambda i: -sparse[i])]
    return kept[:count]


def search(
    first: Sequence[Gene],
    measure: Callable[[Gene], Point],
    child: Callable[[Gene, Gene, random.Random], Gene],
    generations: int,
    dice: random.Random,
) -> dict[Gene, Point]:
    """Every gene that was measured, with its point; each is measured once. child: of two parents. Every generation measures as
    many new genes as there are in `first`, or fewer where children repeat known ones."""
    known = {gene: measure(gene) for gene in dict.fromkeys(first)}
    living, size = list(known), len(known)
    for _ in range(generations):
        children: dict[Gene, None] = {}
        for _ in range(20 * size):
            if len(children) == size:
                break
            made = child(_parent(living, dice), _parent(living, dice), dice)
            if made not in known:
                children[made] = None
        known |= {gene: measure(gene) for gene in children}
        pool = [*living, *children]
        living = [pool[i] for i in survivors([known[gene] for gene in pool], size)]
    return known


def _parent(living: Sequence[Gene], dice: random.Random) -> Gene:
    """The better of two: the living are in order."""
    return living[min(dice.randrange(len(living)), dice.randrange(len(living)))]
