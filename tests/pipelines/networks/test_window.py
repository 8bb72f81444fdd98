"""The UNet on a window against the plain passes, with the statistics of the whole latent put into torch's group_norm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor

from pipelines.networks import position_bias
from pipelines.networks.modulation import modulation_size
from pipelines.networks.unet import FullPass
from pipelines.networks.window import KeepingPass, WindowPass, gap

SIZE, WINDOW = 40, 24
LENGTH, WIDTH = 5, 16


def network(scale_shift: bool, attention: bool = False) -> UNet2DConditionModel:
    torch.manual_seed(0)
    deepest = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D") if attention else ("DownBlock2D", "UpBlock2D")
    made = UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "DownBlock2D", deepest[0]),
        up_block_types=(deepest[1], "UpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2D",
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift" if scale_shift else "default",
    )
    position_bias.add(made, {"conv_in": 8, "down_blocks.0.downsamplers.0.conv": 4, "up_blocks.0.upsamplers.0.conv": 4})
    for name, parameter in made.named_parameters():
        if name.endswith(position_bias.NAME) or "norm" in name:
            parameter.data.normal_(0.5, 0.3)
    return made.eval().requires_grad_(False)


def inputs(unet: UNet2DConditionModel, rows: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 4, SIZE, SIZE, generator=generator) * torch.linspace(0.5, 2.0, SIZE)  # unlike from side to side
    modulation = torch.randn(rows, modulation_size(unet.config), generator=generator)
    return x, modulation, torch.randn(rows, LENGTH, WIDTH, generator=generator)


@contextmanager
def group_norms(found: list[tuple[Tensor, Tensor]], take: bool) -> Iterator[None]:
    """Every call of F.group_norm leaves its means and deviations in `found`, or takes the next ones from there."""
    plain, place = F.group_norm, iter(range(1000))

    def measured(x: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
        parts = x.reshape(len(x), groups, -1).double()
        if not take:
            found.append((parts.mean(2), (parts.var(2, unbiased=False) + eps).sqrt()))
            return plain(x, groups, weight, bias, eps)
        mean, deviation = found[next(place)]
        y = ((parts - mean[..., None]) / deviation[..., None]).float().reshape(x.shape)
        return y if weight is None else y * weight[:, None, None] + bias[:, None, None]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "group_norm", measured)
        yield


@pytest.mark.parametrize("scale_shift", [True, False])
def test_the_keeping_pass_is_the_full_one_and_gives_the_statistics_of_each_normalisation(scale_shift: bool) -> None:
    unet = network(scale_shift)
    found: list[tuple[Tensor, Tensor]] = []
    with group_norms(found, take=False):
        (expected,) = FullPass(unet)(*inputs(unet))
    keeping = KeepingPass(unet)
    out, statistics = keeping(*inputs(unet))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    plain = sorted(float(value) for pair in found for one in pair for value in one.flatten())
    assert statistics.shape == (2, keeping.size) and statistics.dtype == torch.float32
    torch.testing.assert_close(torch.tensor(sorted(statistics.flatten().tolist())), torch.tensor(plain), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scale_shift", [True, False])
def test_a_window_is_the_plain_pass_with_the_statistics_and_the_positions_of_the_whole(scale_shift: bool) -> None:
    unet = network(scale_shift)
    x, *rest = inputs(unet)
    found: list[tuple[Tensor, Tensor]] = []
    with group_norms(found, take=False):
        FullPass(unet)(x, *rest)
    _, statistics = KeepingPass(unet)(x, *rest)
    origin = torch.tensor([[1, 0], [0, 2]])
    tiles = torch.stack([x[row, :, 8 * a : 8 * a + WINDOW, 8 * b : 8 * b + WINDOW] for row, (a, b) in enumerate(origin.tolist())])
    (made,) = WindowPass(unet, (SIZE, SIZE), (WINDOW, WINDOW))(tiles, *rest, statistics, origin)
    for row, (a, b) in enumerate(origin.tolist()):
        one = [value[row : row + 1] for value in (tiles, *rest)]
        with (
            group_norms([(mean[row : row + 1], deviation[row : row + 1]) for mean, deviation in found], take=True),
            maps_cut(unet, 8 * a, 8 * b),
        ):
            (expected,) = FullPass(unet)(*one)
        torch.testing.assert_close(made[row : row + 1], expected, rtol=1e-3, atol=1e-3)


@contextmanager
def maps_cut(unet: UNet2DConditionModel, top: int, left: int) -> Iterator[None]:
    """The position biases of the whole latent, cut to a window by plain slices."""

    def add_map(layer: position_bias.PositionBiasConv2d, y: Tensor) -> Tensor:
        part = WINDOW // y.shape[-1]
        whole = F.interpolate(layer.place * position_bias.FASTER, (SIZE // part,) * 2, mode="bilinear", align_corners=False)
        return y + whole[:, :, top // part : top // part + y.shape[-2], left // part : left // part + y.shape[-1]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(position_bias.PositionBiasConv2d, "add_map", add_map)
        yield


def test_a_window_that_is_the_whole_gives_what_the_full_pass_does() -> None:
    unet = network(True, attention=True)
    taken = inputs(unet)
    (expected,) = FullPass(unet)(*taken)
    _, statistics = KeepingPass(unet)(*taken)
    (made,) = WindowPass(unet, (SIZE, SIZE), (SIZE, SIZE))(*taken, statistics, torch.zeros(2, 2, dtype=torch.int64))
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


def test_the_passes_leave_the_network_as_it_is() -> None:
    unet = network(True, attention=True)
    taken = inputs(unet)
    before = {id(module): type(module) for module in unet.modules()}
    (expected,) = FullPass(unet)(*taken)
    _, statistics = KeepingPass(unet)(*taken)
    WindowPass(unet, (SIZE, SIZE), (SIZE, SIZE))(*taken, statistics, torch.zeros(2, 2, dtype=torch.int64))
    assert {id(module): type(module) for module in unet.modules()} == before
    assert torch.equal(FullPass(unet)(*taken)[0], expected)
    own = {id(parameter) for parameter in unet.parameters()}
    assert {id(parameter) for parameter in KeepingPass(unet).parameters()} <= own, "weights are shared"


def test_networks_that_look_at_the_whole_picture_are_named() -> None:
    local, tiny = dict(network(True, attention=True).config), {"_class_name": "AutoencoderTiny"}
    assert gap(local, tiny) is None
    assert "autoencoder" in (gap(local, {"_class_name": "AutoencoderKL"}) or "")
    everywhere = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D")}
    assert "UNet" in (gap(everywhere, tiny) or "")
    assert gap({"down_block_types": ("DownBlock2D",) * 5, "up_block_types": ("UpBlock2D",) * 5}, tiny) is not None
