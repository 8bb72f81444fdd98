"""The evolutionary search, against a plain search of everything."""

from __future__ import annotations

import math
import random

import pytest

from benchmarks.evolution import Point, crowding, dominates, fronts, search, survivors


def test_a_point_dominates_what_it_is_nowhere_worse_than() -> None:
    assert dominates((1.0, 2.0), (1.0, 3.0)) and not dominates((1.0, 3.0), (1.0, 2.0))
    assert not dominates((1.0, 2.0), (1.0, 2.0)) and not dominates((0.0, 9.0), (9.0, 0.0))


def test_fronts_are_those_of_peeling_by_hand() -> None:
    points = [(1.0, 5.0), (2.0, 2.0), (5.0, 1.0), (3.0, 3.0), (6.0, 6.0), (2.0, 5.0)]
    assert fronts(points) == [[0, 1, 2], [3, 5], [4]]
    assert fronts([]) == []


def test_a_crowded_point_goes_before_a_lone_one() -> None:
    points = [(0.0, 10.0), (1.0, 9.0), (1.5, 8.5), (6.0, 4.0), (10.0, 0.0)]
    distances = crowding(points)
    assert distances[0] == distances[4] == math.inf
    assert distances[1] == pytest.approx(1.5 / 10 + 1.5 / 10) and distances[3] == pytest.approx(8.5 / 10 + 8.5 / 10)
    assert survivors(points, 3) == [0, 4, 3]
    assert crowding([(1.0, 1.0), (1.0, 1.0)]) == [math.inf, math.inf]


def test_the_search_finds_nearly_the_front_of_everything() -> None:
    """Bits: each costs 1 and gains its weight. The best of each number of bits are the heaviest ones."""
    weights = (9, 8, 6, 5, 3, 2, 1, 1, 1, 1)
    measured: list[tuple[int, ...]] = []

    def measure(bits: tuple[int, ...]) -> Point:
        measured.append(bits)
        return float(sum(bits)), -float(sum(w for w, bit in zip(weights, bits, strict=True) if bit))

    def child(a: tuple[int, ...], b: tuple[int, ...], dice: random.Random) -> tuple[int, ...]:
        return tuple((x if dice.random() < 0.5 else y) ^ (dice.random() < 0.1) for x, y in zip(a, b, strict=True))

    dice = random.Random(3)
    first = [tuple(int(dice.random() < 0.5) for _ in weights) for _ in range(16)]
    found = search(first, measure, child, 12, dice)
    assert len(measured) == len(set(measured)) <= 16 * 13 < 2 ** len(weights) / 4, "each once, and far from all"
    for count in range(1, 7):
        best = -float(sum(weights[:count]))
        assert min(gain for cost, gain in found.values() if cost <= count) <= 0.9 * best


def test_a_search_without_new_children_ends() -> None:
    assert search([1, 2], lambda gene: (float(gene),), lambda a, b, dice: a, 5, random.Random(0)) == {1: (1.0,), 2: (2.0,)}
