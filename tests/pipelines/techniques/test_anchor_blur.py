import math

import pytest
import torch

from pipelines.techniques.anchor_blur import blurred


def test_it_is_the_weighted_mean_of_the_neighbours() -> None:
    x, sigma = torch.randn(2, 9, 7, generator=torch.Generator().manual_seed(1)), 0.8
    weights = {d: math.exp(-0.5 * (d / sigma) ** 2) for d in range(-3, 4)}
    total = sum(weights.values())
    expected = torch.zeros_like(x)
    for i in range(9):
        for j in range(7):
            for d, w in weights.items():
                for e, v in weights.items():
                    expected[:, i, j] += w * v / total**2 * x[:, min(max(i + d, 0), 8), min(max(j + e, 0), 6)]
    torch.testing.assert_close(blurred(x, sigma), expected)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_an_even_latent_stays_and_more_blur_leaves_less(sigma: float) -> None:
    even = torch.full((4, 5, 6), 0.7)
    torch.testing.assert_close(blurred(even, sigma), even)
    x = torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(2))
    assert blurred(x, 0.0) is x
    assert float(blurred(x, 2 * sigma).std()) < float(blurred(x, sigma).std()) <= float(x.std())
