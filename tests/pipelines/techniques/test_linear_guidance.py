import pytest
import torch
from torch import Tensor

from pipelines.techniques.linear_guidance import RECHECK, computed, measured, terms

G = torch.Generator().manual_seed(3)
SHAPE = (4, 6, 5)


def frame(k: int) -> tuple[dict[int, tuple[Tensor, Tensor]], Tensor, Tensor]:
    """Predictions of the levels before k; and c_k, u_k, where u_k is a linear sum of them and c_k."""
    before = {level: tuple(torch.randn(2, *SHAPE, generator=G)) for level in range(k)}
    c = torch.randn(SHAPE, generator=G)
    u = 0.7 * c + 0.2 * before[0][1]
    for level in range(k):
        u = u - 0.1 * before[level][0]
    return before, c, u  # type: ignore[return-value]


def test_the_first_half_is_computed_at_every_second_level() -> None:
    wanted = {1: [0], 2: [0], 3: [0], 4: [0], 6: [0, 2], 8: [0, 2]}
    for count, levels in wanted.items():
        assert [level for level in range(count) if computed(level, count)] == levels


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_linear_relation_is_found_from_one_frame(k: int) -> None:
    before, c, u = frame(k)
    estimate = measured(None, k, "key", terms(before, range(k), 4, c), c, u)
    before, c, u = frame(k)
    torch.testing.assert_close(estimate.unconditional(terms(before, range(k), 4, c), c), u, rtol=1e-3, atol=1e-3)


def test_it_is_ordinary_least_squares_where_no_sum_fits() -> None:
    before, c, _ = frame(2)
    u = torch.randn(SHAPE, generator=G)
    estimate = measured(None, 2, "key", terms(before, range(2), 4, c), c, u)
    design = torch.stack([c, before[0][0], before[1][0], before[0][1]]).flatten(1).T
    expected = design @ torch.linalg.lstsq(design, u.flatten()[:, None])[0]
    got = estimate.unconditional(terms(before, range(2), 4, c), c)
    torch.testing.assert_close(got.flatten(), expected[:, 0], rtol=1e-3, atol=1e-3)


def test_nothing_to_decide_by_is_no_guidance() -> None:
    c, zero = torch.randn(SHAPE, generator=G), torch.zeros(SHAPE)
    estimate = measured(None, 1, "key", terms({0: (zero, zero)}, [0], 2, zero), zero, zero)
    torch.testing.assert_close(estimate.unconditional(terms({0: (c, c)}, [0], 2, c), c), c)


def test_earlier_frames_count_half_under_the_same_key_alone() -> None:
    before, c, u = frame(1)
    found = terms(before, [0], 2, c)
    first = measured(None, 1, "key", found, c, u)
    second = measured(first, 1, "key", found, c, u)
    torch.testing.assert_close(second.products, 1.5 * first.products)
    assert second.due == RECHECK > first.due > 0
    other = measured(first, 1, "another", found, c, u)
    torch.testing.assert_close(other.products, first.products)


def test_it_holds_under_its_key_until_it_is_due() -> None:
    before, c, u = frame(1)
    estimate = measured(None, 1, "key", terms(before, [0], 2, c), c, u)
    assert estimate.reusable("key", None, 1.0) and not estimate.reusable("another", None, 0.0)
    for _ in range(estimate.due):
        estimate = estimate.aged()
    assert not estimate.reusable("key", None, 0.0)
