from itertools import combinations_with_replacement

import pytest

from pipelines.graphs.layout import ON_CPU, ON_GPU, Layout, cover, split


@pytest.mark.parametrize(
    "count, ready, sizes",
    [(1, (1,), [1]), (7, (1, 2, 4), [4, 2, 1]), (5, (1,), [1] * 5), (20, (1, 16), [16, 1, 1, 1, 1]), (0, (1,), [])],
)
def test_rows_are_split_over_ready_buckets(count: int, ready: tuple[int, ...], sizes: list[int]) -> None:
    assert split(count, ready) == sizes


@pytest.mark.parametrize("ready", [(1,), (1, 4), (4, 16), (1, 2, 4, 8)])
@pytest.mark.parametrize("per_call", [0.0, 0.5, 2.0, 30.0])
def test_no_cover_is_cheaper(ready: tuple[int, ...], per_call: float) -> None:
    for count in range(14):
        found = cover(count, ready, per_call)
        assert sum(found) >= count and found == sorted(found, reverse=True)
        assert not found or sum(found[:-1]) < count, "the last call is needed"
        every = (way for calls in range(count + 1) for way in combinations_with_replacement(ready, calls) if sum(way) >= count)
        assert per_call * len(found) + sum(found) == min(per_call * len(way) + sum(way) for way in every)


def test_a_gpu_pads_where_two_calls_would_cost_more() -> None:
    assert cover(3, (1, 2, 4), 2.0) == [4] and cover(5, (1, 2, 4, 8), 2.0) == [4, 1] and cover(7, (1, 2, 4, 8), 2.0) == [8]
    assert cover(33, ON_GPU.buckets, 2.0) == [32, 1]


def test_what_is_warmed() -> None:
    assert ON_CPU.wanted(5) == (1, 2) and ON_CPU.wanted(1) == (1,)
    assert ON_GPU.wanted(3) == (1, 4) and ON_GPU.wanted(16) == (1, 16)
    assert Layout((1, 8), 100.0).lay(9, (1, 8)) == [8, 1]
