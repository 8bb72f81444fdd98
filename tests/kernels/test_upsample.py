import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from diffusers.models.upsampling import Upsample2D
from torch import nn

from kernels.upsample import TransposedUpsample, rewrite
from pipelines.networks import position_bias


def kinds(module: nn.Module) -> list[str]:
    return [type(part).__name__ for part in module.modules()]


@pytest.mark.parametrize("channels, out, height, width, bias", [(3, 5, 4, 6, True), (8, 8, 1, 1, True), (2, 7, 5, 3, False)])
def test_it_is_the_convolution_of_the_upsampled_picture(channels: int, out: int, height: int, width: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(height)
    convolution = nn.Conv2d(channels, out, 3, padding=1, bias=bias)
    x = torch.randn(2, channels, height, width, generator=generator)
    large = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    expected = F.conv2d(large, convolution.weight, convolution.bias, padding=1)
    torch.testing.assert_close(TransposedUpsample(convolution)(x), expected, rtol=1e-5, atol=1e-5)


def test_an_upsampler_of_diffusers_is_rewritten_and_computes_the_same() -> None:
    block = nn.ModuleDict({"up": Upsample2D(6, use_conv=True, out_channels=4)})
    x = torch.randn(1, 6, 5, 4)
    expected = block["up"](x)
    rewrite(block)
    assert kinds(block).count("TransposedUpsample") == 1 and "Upsample2D" not in kinds(block)
    torch.testing.assert_close(block["up"](x), expected, rtol=1e-5, atol=1e-5)
    before = kinds(block)
    assert kinds(rewrite(block)) == before  # a second time changes nothing


def test_a_place_is_added_to_the_large_picture() -> None:
    block = nn.ModuleDict({"up": Upsample2D(6, use_conv=True)})
    position_bias.add(block, {"up.conv": 4})
    nn.init.normal_(block["up"].conv.place)
    x = torch.randn(2, 6, 8, 8)
    expected = block["up"](x)
    rewrite(block)
    assert "TransposedUpsample" in kinds(block)
    torch.testing.assert_close(block["up"](x), expected, rtol=1e-5, atol=1e-5)


def test_the_tiny_autoencoders_sequence_is_rewritten_too() -> None:
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4, num_encoder_blocks=(1,) * 4
    ).eval()
    z = torch.randn(1, 4, 4, 3)
    with torch.no_grad():
        expected = tiny.decode(z).sample
        rewrite(tiny)
        assert kinds(tiny).count("TransposedUpsample") == 3
        torch.testing.assert_close(tiny.decode(z).sample, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "layers",
    [
        nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 4, 3, padding=1)),
        nn.Sequential(nn.Upsample(scale_factor=4), nn.Conv2d(4, 4, 3, padding=1)),
        nn.Sequential(nn.Upsample(size=(8, 8)), nn.Conv2d(4, 4, 3, padding=1)),
        nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 1)),
        nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, padding=1, stride=2)),
        nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, padding=1, groups=2)),
        nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
        nn.Sequential(nn.Upsample(scale_factor=2), nn.SiLU(), nn.Conv2d(4, 4, 3, padding=1)),
        nn.Sequential(Upsample2D(4)),
        nn.Sequential(Upsample2D(4, use_conv=True, interpolate=False)),
        nn.Sequential(Upsample2D(4, use_conv_transpose=True)),
        nn.ModuleList([nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, padding=1)]),
    ],
)
def test_what_computes_something_else_stays(layers: nn.Module) -> None:
    before = kinds(layers)
    assert kinds(rewrite(layers)) == before


def test_a_convolution_of_another_class_stays() -> None:
    class Scaled(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    layers = nn.Sequential(nn.Upsample(scale_factor=2), Scaled(4, 4, 3, padding=1))
    assert "TransposedUpsample" not in kinds(rewrite(layers))
