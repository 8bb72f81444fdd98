import math

import pytest
import torch

from pipelines.techniques import cads
from pipelines.values.settings import CadsSettings

Y = 0.3 + 2 * torch.randn(5, 7, generator=torch.Generator().manual_seed(1))


def test_the_prompt_is_annealed_between_two_levels() -> None:
    assert [cads.kept(t, 0.6, 0.9) for t in (0.0, 0.6, 0.9, 1.0)] == [1.0, 1.0, 0.0, 0.0]
    assert cads.kept(0.75, 0.6, 0.9) == pytest.approx(0.5)
    assert cads.kept(1.0, 0.6, 1.4) == pytest.approx(0.5)
    assert (cads.kept(0.5, 0.7, 0.3), cads.kept(0.8, 0.7, 0.3)) == (1.0, 0.0), "no division where the bounds are turned round"


@pytest.mark.parametrize("psi", [0.0, 0.4, 1.0])
def test_it_is_the_papers_mixture(psi: float) -> None:
    n = cads.noise(3, 0, (5, 7))
    hat = math.sqrt(0.3) * Y + 0.8 * math.sqrt(0.7) * n
    rescaled = (hat - hat.mean()) / hat.std() * Y.std() + Y.mean()
    torch.testing.assert_close(cads.annealed(Y, n, 0.3, 0.8, psi), psi * rescaled + (1 - psi) * hat)
    assert cads.annealed(Y, n, 1.0, 0.8, psi) is Y


def test_rescaled_it_keeps_mean_and_deviation() -> None:
    made = cads.annealed(Y, cads.noise(0, 0, (5, 7)), 0.0, 2.0, 1.0)
    assert float(made.mean()) == pytest.approx(float(Y.mean()), abs=1e-5)
    assert float(made.std()) == pytest.approx(float(Y.std()), abs=1e-5)
    flat = torch.zeros(5, 7)
    assert torch.isfinite(cads.annealed(flat, flat, 0.5, 0.0, 1.0)).all(), "a text of zeros without noise"


def test_every_seed_and_embedding_has_noise_of_its_own() -> None:
    first = cads.noise(0, 0, (4, 6))
    assert torch.equal(first, cads.noise(0, 0, (4, 6)))
    for seed, index in ((1, 0), (0, 1), (2**32 - 1, 1)):
        assert not torch.allclose(first, cads.noise(seed, index, (4, 6)))


def test_off_keeps_the_prompt() -> None:
    assert cads.of_level(CadsSettings(), 1.0) == 1.0 > cads.of_level(CadsSettings(enabled=True), 1.0)
