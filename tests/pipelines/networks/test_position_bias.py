"""A bias that depends on the place: what it adds, at any size, and that the loader puts it where the file has it."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import nn

from pipelines.checkpoints.loader import networks
from pipelines.networks import position_bias
from pipelines.values.types import ModelError

CELLS = {"conv_in": 4, "down_blocks.0.downsamplers.0.conv": 2, "up_blocks.0.upsamplers.0.conv": 4}


def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    made = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), norm_num_groups=4, cross_attention_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    )  # fmt: skip
    return made.eval()


def called(model: nn.Module, side: int = 8) -> torch.Tensor:
    x = torch.randn(2, 4, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found: torch.Tensor = model(x, torch.tensor([9, 500]), torch.ones(2, 3, 8), return_dict=False)[0]
    return found


def test_the_map_is_added_as_it_is_or_stretched_over_the_frame() -> None:
    layer = nn.Conv2d(1, 2, 1)
    position_bias.add(nn.ModuleDict({"layer": layer}), {"layer": 2})
    assert isinstance(layer, position_bias.PositionBiasConv2d)
    before = nn.functional.conv2d(torch.ones(1, 1, 4, 4), layer.weight, layer.bias)
    assert torch.equal(layer(torch.ones(1, 1, 4, 4)), before), "at first it adds nothing"
    with torch.no_grad():
        layer.place[0, 0] = torch.tensor([[0.0, 0.1], [0.2, 0.3]])  # kept divided by ten
    same = layer(torch.ones(1, 1, 2, 2)) - before[..., :2, :2]
    torch.testing.assert_close(same[0, 0], torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    # Four cells over what were two: their middles lie at -1/4, 1/4, 3/4, 5/4 between the two, which ends outside are held at.
    across = torch.tensor([0.0, 0.25, 0.75, 1.0])
    stretched = (layer(torch.ones(1, 1, 4, 4)) - before)[0]
    torch.testing.assert_close(stretched[0], across[None] + 2 * across[:, None])
    assert not stretched[1].any()


@pytest.mark.parametrize("name", ["conv_inn", "mid_block", "time_embedding.linear_1"])
def test_only_convolutions_have_a_place(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        position_bias.add(unet(), {name: 4})


def test_a_file_with_places_is_loaded_with_them_and_stock_diffusers_leaves_them_out(tmp_path: Path) -> None:
    made = unet()
    plain = called(made)
    position_bias.add(made, CELLS)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith(position_bias.NAME):
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) / 10)
    wanted = called(made)
    assert not torch.allclose(wanted, plain, atol=1e-3)
    made.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    again = networks.build("UNet2DConditionModel", UNet2DConditionModel.load_config(tmp_path), tensors, "unet")
    assert torch.equal(called(again), wanted)
    assert {name for name, module in again.named_modules() if isinstance(module, position_bias.PositionBiasConv2d)} == set(CELLS)
    torch.testing.assert_close(called(UNet2DConditionModel.from_pretrained(tmp_path)), plain)


def test_a_place_that_fits_nothing_is_named(tmp_path: Path) -> None:
    made = unet()
    tensors = {**made.state_dict(), "conv_in.place": torch.zeros(1, 3, 4, 4)}
    with pytest.raises(ModelError, match=r"conv_in\.place has shape \[1, 3, 4, 4\]; the configuration requires \[1, 8, 4, 4\]"):
        networks.build("UNet2DConditionModel", made.config, tensors, "unet")
    tensors = {**made.state_dict(), "mid_block.place": torch.zeros(1, 16, 4, 4)}
    with pytest.raises(ModelError, match="mid_block"):
        networks.build("UNet2DConditionModel", made.config, tensors, "unet")
