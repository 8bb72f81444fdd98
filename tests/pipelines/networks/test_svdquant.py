"""SVDQuant against its equations, computed plainly here."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pipelines.networks import svdquant
from pipelines.networks.svdquant import GROUP, RANK, LowRankLinear

SIDE = 128


def weight(seed: int = 0, outliers: float = 0.0) -> Tensor:
    """[SIDE, SIDE]: noise, and with outliers a few directions that are larger by so much, as trained weights have."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(SIDE, SIDE, generator=generator)
    few = torch.randn(SIDE, 4, generator=generator) @ torch.randn(4, SIDE, generator=generator)
    return noise + outliers * few


def plain(values: Tensor) -> Tensor:
    """Q, number by number."""
    found = values.clone()
    for row in range(values.shape[0]):
        for first in range(0, values.shape[1], GROUP):
            group = values[row, first : first + GROUP].tolist()
            scale = -max(group, key=abs) / 8
            whole = [max(-8, min(7, round(value / scale))) for value in group]
            found[row, first : first + GROUP] = torch.tensor([scale * number for number in whole])
    return found


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).detach().norm() / wanted.detach().norm())


def test_a_group_has_sixteen_levels_and_its_extreme_is_exact() -> None:
    values = weight()
    torch.testing.assert_close(svdquant.quantised(values), plain(values))
    groups = svdquant.quantised(values).unflatten(1, (-1, GROUP))
    assert max(len(group.unique()) for row in groups for group in row) <= 16
    torch.testing.assert_close(groups.abs().amax(-1), values.unflatten(1, (-1, GROUP)).abs().amax(-1))
    assert svdquant.quantised(torch.zeros(2, GROUP)).equal(torch.zeros(2, GROUP))
    with pytest.raises(ValueError, match="65 input channels"):
        svdquant.quantised(torch.zeros(2, GROUP + 1))


@pytest.mark.parametrize("convolution", [False, True])
def test_a_layer_is_its_branch_and_its_residual(convolution: bool) -> None:
    layer: nn.Conv2d | nn.Linear = nn.Conv2d(SIDE, SIDE, 1) if convolution else nn.Linear(SIDE, SIDE)
    layer.weight.data = weight(outliers=1.0).reshape(layer.weight.shape)
    x = torch.randn(2, SIDE, 3, 5) if convolution else torch.randn(2, 3, SIDE)
    split = LowRankLinear(layer)
    torch.testing.assert_close(split(x), layer(x), rtol=1e-4, atol=1e-3)
    split.residual.weight.data = svdquant.quantised(split.residual.weight.data)
    rows = x.movedim(1, -1) if convolution else x
    smoothed = rows if split.smooth is None else rows * split.smooth
    wanted = smoothed @ split.low_down.weight.T @ split.low_up.weight.T + smoothed @ split.residual.weight.T + layer.bias
    torch.testing.assert_close(split(x), wanted.movedim(-1, 1) if convolution else wanted, rtol=1e-4, atol=1e-3)
    assert 0.0 < error(split(x), layer(x)) < 0.05


def test_the_branch_takes_what_four_bits_lose() -> None:
    """Of directions that are larger than the rest: the error is then that of the rest."""
    values = weight(outliers=3.0)
    parts = svdquant.split(values)
    assert parts.down.shape == (RANK, SIDE) and parts.up.shape == (SIDE, RANK)
    exact = torch.linalg.svdvals(values)[RANK:].norm()
    smallest = svdquant.split_as(values, None, RANK).residual.norm()
    assert exact <= smallest * 1.0001 and smallest < 1.05 * exact, "no better branch of this rank exists"
    assert error(parts.weight, values) < 0.4 * error(svdquant.quantised(values), values)


def test_a_smooth_scale_is_taken_where_input_channels_differ() -> None:
    values = weight()
    assert svdquant.split(values).smooth is None
    values[:, ::3] *= 30.0  # more channels than the branch has ranks
    parts, without = svdquant.split(values), svdquant.split_as(values, None, RANK)
    assert parts.smooth is not None and error(parts.weight, values) < error(without.weight, values)


def test_layers_inside_a_unet_that_are_large_enough_are_split_once() -> None:
    block = nn.Module()
    block.transformer_blocks = nn.ModuleList([nn.Linear(SIDE, SIDE), nn.Linear(SIDE - 1, SIDE), nn.Linear(SIDE, GROUP)])
    block.time_embedding, block.conv_shortcut = nn.Linear(SIDE, SIDE), nn.Conv2d(SIDE, SIDE, 1)
    block.conv1, block.down = nn.Conv2d(SIDE, SIDE, 3), nn.Conv2d(SIDE, SIDE, 1, stride=2)
    svdquant.rewrite(block)
    split = {name for name, part in block.named_modules() if isinstance(part, LowRankLinear)}
    assert split == {"transformer_blocks.0", "conv_shortcut"}
    before = block.transformer_blocks[0]
    assert svdquant.rewrite(block).transformer_blocks[0] is before  # type: ignore[index]


def test_names_and_shapes_of_a_file_give_the_same_choice() -> None:
    inside = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    for shape, fits in (((SIDE, SIDE), True), ((SIDE, GROUP), False), ((SIDE,), False), ((SIDE, SIDE, 1, 1), True)):
        assert svdquant.worth_stored(inside, shape) is fits, shape
    assert not svdquant.worth_stored("time_embedding.linear_1.weight", (SIDE, SIDE))
    assert not svdquant.worth_stored("conv_in.weight", (SIDE, SIDE, 3, 3))
