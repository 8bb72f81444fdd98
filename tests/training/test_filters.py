"""Filters against values computed by hand or by numpy."""

import numpy as np
import pytest
import torch

from training import filters


def test_blur_keeps_constants_and_mass() -> None:
    assert torch.allclose(filters.blur(torch.full((1, 2, 20, 30), 0.3), 3.0), torch.tensor(0.3), atol=1e-6)
    point = torch.zeros(1, 1, 41, 41)
    point[..., 20, 20] = 1
    spread = filters.blur(point, 2.0)
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    axis = torch.arange(41) - 20.0
    assert float((spread[0, 0].sum(0) * axis**2).sum()) == pytest.approx(4.0, rel=0.15)  # truncated at 2.5 sigma


def test_gradients_of_a_ramp() -> None:
    ramp = torch.arange(16.0).view(1, 1, 1, 16).expand(1, 1, 12, 16) / 16
    gx, gy = filters.gradients(ramp)
    assert torch.allclose(gx[..., 1:-1], torch.tensor(2 / 16 * 0.5)) and gy.abs().max() < 1e-6


def test_kuwahara_keeps_an_edge_sharp_and_removes_noise() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.full((1, 3, 40, 40), 0.2)
    x[..., 20:] = 0.8
    noisy = x + 0.05 * torch.randn(x.shape, generator=rng)
    y = filters.kuwahara(noisy, 4)
    assert (y - x).abs().mean() < 0.5 * (noisy - x).abs().mean()
    assert float((y[..., 21] - y[..., 18]).mean()) > 0.55


def test_blocks_against_numpy() -> None:
    x = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    expected = x.numpy().reshape(1, 3, 2, 8, 3, 8).mean((3, 5)).repeat(8, 2).repeat(8, 3)
    np.testing.assert_allclose(filters.blocks(x).numpy(), expected, atol=1e-6)


def test_gradient_map_hits_its_stops() -> None:
    stops = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.5), (1.0, 1.0, 1.0))
    luma = torch.tensor([0.0, 0.25, 0.5, 1.0]).view(1, 1, 1, 4)
    mapped = filters.gradient_map(luma, stops)[0, :, 0].T
    expected = torch.tensor([stops[0], (0.5, 0.0, 0.25), stops[1], stops[2]])
    assert torch.allclose(mapped, expected, atol=1e-6)


def test_contrast_is_fixed_at_the_ends() -> None:
    y = filters.contrast(torch.tensor([0.0, 0.5, 1.0]), 4.0)
    assert torch.allclose(y, torch.tensor([0.0, 0.5, 1.0]), atol=1e-6)
