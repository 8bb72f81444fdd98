"""Paint that keeps the painter's statistics, and paint that takes them, against the plain one."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.networks.pixels import PaintPixels
from pipelines.networks.trunk import TrunkPainter
from pipelines.networks.window_paint import PaintKeeping, PaintWindow


class Doubler(nn.Module):
    """An autoencoder whose decoder repeats each latent pixel 8 x 8 times."""

    config: Any = SimpleNamespace(scaling_factor=1.0)

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def decode(self, z: Tensor, return_dict: bool) -> tuple[Tensor]:
        return (z.repeat_interleave(8, 2).repeat_interleave(8, 3),)


def painting() -> tuple[Doubler, TrunkPainter, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    painter = TrunkPainter(channels=8, num_blocks=1, half_channels=4, num_styles=2).eval().requires_grad_(False)
    style = painter.styles[:1] + 0.3 * torch.randn(1, painter.style_numbers)
    return Doubler(), painter, (torch.rand(1, 3, 8, 8) * 1.6 - 0.8, style, torch.tensor([0.8]), torch.tensor([1.0]))


@torch.inference_mode()
def test_keeping_paints_as_before_and_gives_the_style_that_needs_no_statistics() -> None:
    vae, painter, taken = painting()
    (expected,) = PaintPixels(vae, painter)(*taken)
    found, folded = PaintKeeping(vae, painter)(*taken)
    assert torch.equal(found, expected) and not torch.equal(folded, taken[1])
    (again,) = PaintWindow(vae, painter)(taken[0], folded, *taken[2:])
    assert (again.int() - expected.int()).abs().max() <= 1


@torch.inference_mode()
def test_a_window_is_painted_as_a_part_of_the_whole() -> None:
    vae, painter, (latents, style, *rest) = painting()
    whole, folded = PaintKeeping(vae, painter)(latents, style, *rest)
    part = latents[:, :, :, :5]
    (kept,) = PaintWindow(vae, painter)(part, folded, *rest)
    (own,) = PaintPixels(vae, painter)(part, style, *rest)
    inside = (slice(None), slice(None), slice(0, 8))
    near, far = ((one[inside].int() - whole[inside].int()).abs().float().mean() for one in (kept, own))
    assert near < 0.5 * far and near < 3.0
