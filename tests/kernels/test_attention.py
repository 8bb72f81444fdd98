import pytest
import torch

from kernels import attention


def test_it_is_softmax_of_products_per_head() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, length, 12, generator=generator) for length in (5, 7, 7))
    expected = torch.empty(2, 5, 12)
    for row in range(2):
        for head in range(3):
            part = slice(4 * head, 4 * head + 4)
            weights = (query[row, :, part] @ key[row, :, part].T / 4**0.5).softmax(-1)
            expected[row, :, part] = weights @ value[row, :, part]
    torch.testing.assert_close(attention.attend(query, key, value, 3), expected, rtol=1e-5, atol=1e-5)


def test_kinds() -> None:
    x = torch.zeros(1, 2, 4)
    assert attention.available("sdpa") and not attention.available("guess")
    with pytest.raises(ValueError, match="sdpa"):
        attention.attend(x, x, x, 1, "guess")
