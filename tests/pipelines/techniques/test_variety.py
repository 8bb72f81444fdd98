import pytest
import torch
import torch.nn.functional as F

from pipelines.techniques import variety


def test_the_smooth_latent_is_a_sum_of_octaves() -> None:
    generator = torch.Generator().manual_seed(7 + variety.SEED_OFFSET)
    total = torch.zeros(4, 24, 40)
    for k in range(3):
        cells = torch.randn(1, 4, 4 * 2**k, 4 * 2**k, generator=generator)
        total = total + 0.6**k * F.interpolate(cells, (24, 40), mode="bicubic")[0]
    torch.testing.assert_close(variety.smooth(7, (4, 24, 40)), total / total.std())


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 64, 64), (16, 96, 32), (4, 1, 1)])
def test_every_seed_has_its_own_and_the_size_only_samples_it(shape: tuple[int, int, int]) -> None:
    one, other = variety.smooth(0, shape), variety.smooth(2**32 - 1, shape)
    assert one.shape == shape and torch.isfinite(one).all() and torch.equal(one, variety.smooth(0, shape))
    assert not torch.allclose(one, other) and float(one.std()) == pytest.approx(1.0, abs=1e-4)


def test_twice_the_size_is_the_same_layout() -> None:
    small, large = variety.smooth(3, (4, 32, 32)), variety.smooth(3, (4, 64, 64))
    alike = F.cosine_similarity(small.flatten(), F.avg_pool2d(large, 2).flatten(), dim=0)
    apart = F.cosine_similarity(small.flatten(), variety.smooth(4, (4, 32, 32)).flatten(), dim=0)
    assert float(alike) > 0.98 > 0.5 > abs(float(apart))


def test_more_of_it_starts_lower() -> None:
    assert variety.strength(0.0) == 1.0 and variety.strength(1.0) == pytest.approx(1 - variety.REACH)
