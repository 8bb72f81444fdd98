"""Measures of pictures against cases that can be worked out by hand."""

import numpy as np
import pytest
import torch

from training import measures


def _square(top: int = 30, side: int = 96) -> torch.Tensor:
    x = torch.full((1, 3, side, side), 0.2)
    x[..., top : top + 40, 30:70] = 0.9
    return x


def test_ssim_and_histogram_at_their_ends() -> None:
    x = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    assert measures.ssim(x, x) == pytest.approx(1, abs=1e-4) and measures.histogram_distance(x, x) == 0
    assert measures.ssim(x, 1 - x) < 0
    assert measures.histogram_distance(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)) == 1
    assert float(measures.histogram(x).sum()) == pytest.approx(1)


def test_canny_finds_the_outline_whatever_the_contrast() -> None:
    strong, weak = measures.canny(_square()), measures.canny(0.4 + 0.15 * _square())
    assert 120 < strong.sum() < 220 and np.array_equal(strong, weak)
    assert not measures.canny(torch.full((1, 3, 40, 40), 0.5)).any()


def test_structure_of_the_same_a_moved_and_a_missing_shape() -> None:
    x = _square()
    assert measures.structure(x, x, x) == pytest.approx(1)
    assert measures.structure(x, x, _square(31)) == pytest.approx(1)
    assert measures.structure(x, x, _square(42)) < 0.75
    assert measures.structure(x, x, torch.full_like(x, 0.5)) == 0
    assert measures.structure(torch.full_like(x, 0.5), x, x) is None


def test_structure_forgives_what_the_look_adds_and_drops() -> None:
    x = _square()
    hatched = x.clone()
    hatched[..., 2:26, ::8] = 1.0  # a look that hatches the background
    assert measures.structure(x, hatched, hatched) > 0.95
    assert measures.structure(x, x, hatched) < 0.7
    plain = torch.full_like(x, 0.2)
    plain[..., 30:70, 30:34] = 0.9  # a look that keeps one side of the shape only
    assert measures.structure(x, plain, plain) > 0.9


def test_sharpness_of_a_ramp() -> None:
    ramp = (torch.arange(16.0) / 16).expand(1, 3, 12, 16)
    assert measures.sharpness(ramp) == pytest.approx(1 / 16, rel=1e-4)


def test_noise_of_two_frames_and_the_ratio_of_differences() -> None:
    x = torch.full((1, 3, 64, 64), 0.5)
    a, b = measures.noisy_pair(x)
    assert float((a - b).std()) == pytest.approx(2**0.5 * 2 / 255, rel=0.1)
    assert measures.difference_ratio((3 * a, 3 * b), (a, b)) == pytest.approx(3, rel=1e-3)


def test_spread_is_the_mean_distance() -> None:
    points = torch.tensor([[0.0, 0], [3, 4], [0, 0]])
    assert measures.spread(points) == pytest.approx(10 / 3)
