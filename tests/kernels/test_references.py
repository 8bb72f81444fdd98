"""What the dispatch functions compute on a CPU, against arithmetic written out."""

import numpy as np
import pytest
import torch
from torch import nn

from kernels.group_norm_silu import NormActivation, group_norm_silu
from kernels.pixels import enter, leave

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), np.uint8)


def test_pixels_there_and_back() -> None:
    given = torch.from_numpy(PICTURES)
    x = enter(given, torch.float32)
    np.testing.assert_allclose(x.numpy(), PICTURES.transpose(0, 3, 1, 2) / 127.5 - 1, atol=1e-6)
    assert (leave(x).numpy() == PICTURES).all()
    assert leave(torch.full((1, 3, 1, 1), 9.0)).max() == 255 and leave(torch.full((1, 3, 1, 1), -9.0)).max() == 0


def test_half_the_size_is_the_mean_of_four() -> None:
    x = enter(torch.from_numpy(PICTURES), torch.float32, (32, 24))
    means = PICTURES.reshape(2, 32, 2, 24, 2, 3).mean((2, 4))
    np.testing.assert_allclose(x.numpy(), means.transpose(0, 3, 1, 2) / 127.5 - 1, atol=1e-5)


def test_group_norm_and_silu_with_something_added() -> None:
    generator = torch.Generator().manual_seed(0)
    x, added = torch.randn(2, 6, 5, 4, generator=generator), torch.randn(2, 6, generator=generator)
    weight, bias = torch.randn(6, generator=generator), torch.randn(6, generator=generator)
    found = group_norm_silu(x, 3, weight, bias, 1e-5, added)
    for row in range(2):
        for group in range(3):
            part = slice(2 * group, 2 * group + 2)
            values = x[row, part] + added[row, part, None, None]
            unit = (values - values.mean()) / (values.var(correction=0) + 1e-5).sqrt()
            normed = unit * weight[part, None, None] + bias[part, None, None]
            torch.testing.assert_close(found[row, part], normed / (1 + (-normed).exp()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("norm", "activation", "fused"),
    [(nn.GroupNorm(2, 8), nn.SiLU(), True), (nn.GroupNorm(2, 8), nn.GELU(), False), (nn.Identity(), nn.SiLU(), False)],
)
def test_one_operation_takes_the_place_of_group_norm_and_silu_only(
    norm: nn.Module, activation: nn.Module, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr("kernels.group_norm_silu.group_norm_silu", lambda *given: calls.append(given) or given[0])
    layer, x = NormActivation(norm, activation), torch.randn(1, 8, 3, 3)
    layer(x)
    assert calls == [], "no backend has switched it on"
    layer.kernels = True
    made = layer(x)
    assert len(calls) == fused
    if not fused:
        torch.testing.assert_close(made, activation(norm(x)))
