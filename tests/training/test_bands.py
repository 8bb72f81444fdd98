"""One's own detail in another picture's amount."""

import pytest
import torch
from torch import Generator

from training.bands import LEAST, MOST, bands, with_strength_of
from training.filters import blur


@pytest.fixture
def real() -> torch.Tensor:
    noise = torch.randn(2, 1, 96, 96, generator=Generator().manual_seed(0)).expand(2, 3, 96, 96)
    return (blur(noise, 1.5) * 0.8).clamp(-0.6, 0.6)


def test_bands_are_all_of_a_picture_from_fine_to_coarse(real: torch.Tensor) -> None:
    parts, rest = bands(real)
    torch.testing.assert_close(sum(parts) + rest, real, atol=1e-5, rtol=0)
    fine = torch.zeros(1, 1, 96, 96)
    fine[..., ::2] = 1
    strong = [float(part[..., 16:-16, 16:-16].abs().mean()) for part in bands(fine)[0]]
    assert strong[0] > 0.45 and max(strong[1:]) < 0.02


def test_faint_detail_gets_the_others_strength_and_stays_where_it_is(real: torch.Tensor) -> None:
    parts, rest = bands(real)
    faint = rest + 0.5 * sum(parts)
    torch.testing.assert_close(with_strength_of(faint, real), real, atol=0.08, rtol=0)
    torch.testing.assert_close(with_strength_of(faint, real, 0.0), faint, atol=1e-5, rtol=0)
    half = with_strength_of(faint, real, 0.5)
    far, nearer, near = ((x - real).abs().mean() for x in (faint, half, with_strength_of(faint, real)))
    assert far > 1.6 * nearer > 2 * near
    own, other = torch.full((1, 3, 96, 96), -0.5), torch.full((1, 3, 96, 96), -0.5)
    own[..., 40], other[..., 48] = -0.3, 0.3
    drawn = with_strength_of(own, other)[0, 0, 48]
    assert int(drawn.argmax()) == 40 and float(drawn[40]) > -0.1 and float(drawn[48]) < -0.4


def test_too_much_detail_becomes_less_and_flat_stays_flat(real: torch.Tensor) -> None:
    flat = torch.zeros_like(real)
    calmer = with_strength_of(real, flat)
    assert torch.isfinite(calmer).all()
    assert float(bands(calmer)[0][0].std() / bands(real)[0][0].std()) == pytest.approx(LEAST, abs=0.15)
    assert torch.equal(with_strength_of(flat, real), flat), "there is nothing to make stronger"
    weak = 0.01 * real
    assert float(with_strength_of(weak, real).std() / weak.std()) < MOST + 0.01
