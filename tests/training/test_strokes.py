"""Directions and strokes on pictures whose direction is known."""

import math

import pytest
import torch

from training import strokes


def _stripes(angle: float, side: int = 96) -> torch.Tensor:
    """Stripes that run along `angle` (from right towards down), (1, 3, S, S)."""
    axis = torch.arange(float(side))
    across = -math.sin(angle) * axis[None] + math.cos(angle) * axis[:, None]
    return (0.5 + 0.4 * torch.sin(across * 0.6)).expand(1, 3, side, side)


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.0, 1.5708, 2.5])
def test_direction_of_stripes(angle: float) -> None:
    c, s = strokes.direction(_stripes(angle))
    inside = (..., slice(24, 72), slice(24, 72))
    assert torch.allclose(c[inside], torch.tensor(math.cos(2 * angle)), atol=0.1)
    assert torch.allclose(s[inside], torch.tensor(math.sin(2 * angle)), atol=0.1)


def test_flat_and_noisy_areas_lean_one_way() -> None:
    flat = torch.full((1, 3, 64, 64), 0.5)
    noisy = flat + torch.randn(flat.shape, generator=torch.Generator().manual_seed(0)) * 2 / 255
    for x in (flat, noisy):
        c, s = strokes.direction(x)
        assert c.abs().max() < 0.35 and (s < -0.5).all()


def test_smoothing_along_stripes_keeps_them_and_across_does_not() -> None:
    x = _stripes(0.0)
    way, turned = (torch.ones(1, 1, 96, 96), torch.zeros(1, 1, 96, 96)), (-torch.ones(1, 1, 96, 96), torch.zeros(1, 1, 96, 96))
    assert (strokes.along(x, way, 6.0) - x).abs().max() < 1e-4
    assert strokes.along(x, turned, 6.0).std() < 0.5 * x.std()


def test_a_grating_runs_along_its_direction_with_period_8() -> None:
    x = torch.zeros(1, 3, 64, 64)
    along_x = (torch.ones(1, 1, 64, 64), torch.zeros(1, 1, 64, 64))
    lines = strokes.grating(x, along_x)
    assert torch.allclose(lines[..., 8:, :], lines[..., :-8, :], atol=1e-4)
    assert lines.std(3).mean() < 0.35 * lines.std(2).mean()
    assert lines.std() > 0.4


def test_ink_lines_lie_on_the_dark_side() -> None:
    x = torch.full((1, 3, 48, 48), 0.2)
    x[..., 24:] = 0.8
    line = strokes.ink_lines(x, strokes.direction(x), 1.2)[0, 0, 24]
    assert line[21:24].max() > 0.9 and line[25:].max() < 0.05 and line[:14].max() < 0.05
