"""Low-rank branches with gains as inputs, against weights with the same product added."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from kernels import upsample
from pipelines.networks import lora_branches, position_bias
from pipelines.networks.lora_branches import Gains, WithGains

RANKS = (2, 3)


def layers() -> dict[str, tuple[nn.Module, Tensor]]:
    """Layers, and an input of two rows each."""
    placed = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1))
    position_bias.add(placed, {"0": 4})
    nn.init.normal_(placed[0].place)
    return {
        "tokens": (nn.Linear(4, 6), torch.randn(2, 5, 4)),
        "vectors": (nn.Linear(4, 6, bias=False), torch.randn(2, 4)),
        "convolution": (nn.Conv2d(4, 6, 3, padding=1), torch.randn(2, 4, 8, 8)),
        "strided": (nn.Conv2d(4, 6, 3, stride=2, padding=1), torch.randn(2, 4, 8, 8)),
        "1 x 1": (nn.Conv2d(4, 6, 1), torch.randn(2, 4, 8, 8)),
        "with a position bias": (placed[0], torch.randn(2, 4, 8, 8)),
    }


def factors(weight: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(rank, *weight.shape[1:]), torch.randn(weight.shape[0], rank)) for rank in RANKS]


def fused(layer: nn.Module, pairs: list[tuple[Tensor, Tensor]], gains: Tensor) -> nn.Module:
    """A copy of the layer with the branches in its weight."""
    other = copy.deepcopy(layer)
    weight = other.get_parameter("weight")
    for gain, (down, up) in zip(gains, pairs, strict=True):
        weight.data += gain * (up @ down.flatten(1)).reshape(weight.shape)
    return other


@pytest.mark.parametrize("name", list(layers()))
def test_every_row_has_what_weights_fused_with_its_gains_give(name: str) -> None:
    torch.manual_seed(0)
    layer, x = layers()[name]
    pairs, gains, slot = factors(layer.get_parameter("weight")), torch.tensor([[0.7, -1.2], [0.0, 0.4]]), Gains()
    with torch.no_grad():
        expected = torch.cat([fused(layer, pairs, row)(x[index : index + 1]) for index, row in enumerate(gains)])
        plain = layer(x)
        lora_branches.add(layer, pairs, [0, 1], slot)
        whole = WithGains(layer, slot)
        torch.testing.assert_close(whole(x, gains), expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(whole(x, torch.zeros(2, 2)), plain), "without weight the layer itself"
        assert not torch.allclose(whole(x, gains), plain, atol=1e-2)


@pytest.mark.parametrize("placed", [False, True])
def test_an_upsampler_with_a_branch_keeps_it_where_others_become_transposed(placed: bool) -> None:
    torch.manual_seed(0)
    upsampler = Upsample2D(4, use_conv=True, out_channels=6)
    if placed:
        position_bias.add(upsampler, {"conv": 4})
        nn.init.normal_(upsampler.conv.place)
    pairs, gains, x = factors(upsampler.conv.weight)[:1], torch.tensor([[0.8]]), torch.randn(1, 4, 8, 8)
    slot = Gains()
    with torch.no_grad():
        conv, upsampler.conv = upsampler.conv, fused(upsampler.conv, pairs, gains[0])
        expected = upsampler(x)
        upsampler.conv = conv
        lora_branches.add(conv, pairs, [0], slot)
        whole = upsample.rewrite(WithGains(upsampler, slot))
        torch.testing.assert_close(whole(x, gains), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 3, groups=2)])
def test_other_layers_take_no_branch(layer: nn.Module) -> None:
    with pytest.raises(ValueError, match=f"a {type(layer).__name__} takes no low-rank branch"):
        lora_branches.add(layer, [(torch.zeros(2, 4, 3, 3), torch.zeros(4, 2))], [0], Gains())
