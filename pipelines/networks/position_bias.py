"""A bias that depends on the place in the frame, for convolutions of a UNet: what draws a picture from noise alone knows by it
where up, down and the middle are.

Without it a convolutional UNet finds its place only by the zeros around the frame, and what it learnt at one size is lost at
another (Islam et al. 2020, arXiv 2001.08248). The module stays the stock one but for the class of these convolutions; diffusers
leaves the added tensors out when it loads a folder by itself, so its pipelines are given the UNet as our loader reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAME = ".place"
FASTER = 10.0
"""The map is kept divided by this, so that an optimiser with one rate for all moves it that much faster than weights."""


class PlacedConv2d(nn.Conv2d):
    """A convolution whose output (N, C, h, w) gets a learnt map added, (1, C, p, p) stretched bilinearly to h x w."""

    place: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(super().forward(x))

    def behind(self, y: Tensor) -> Tensor:
        """The map added to what the convolution made."""
        bias = self.place * FASTER
        if bias.shape[-2:] != y.shape[-2:]:
            bias = F.interpolate(bias.float(), size=y.shape[-2:], mode="bilinear", align_corners=False)
        return y + bias.to(y.dtype)


def add(module: nn.Module, cells: Mapping[str, int]) -> None:
    """Gives the convolutions of these names a map of p x p zeros each, p by name.

    Raises ValueError for what is no convolution.
    """
    for name, side in cells.items():
        try:
            convolution = module.get_submodule(name)
        except AttributeError as error:
            raise ValueError(f"{name}: no such layer to give a place to") from error
        if not isinstance(convolution, nn.Conv2d):
            raise ValueError(f"{name}: a {type(convolution).__name__}; only convolutions can have a place")
        convolution.__class__ = PlacedConv2d
        weight = convolution.weight
        convolution.place = nn.Parameter(torch.zeros(1, len(weight), side, side, dtype=weight.dtype, device=weight.device))


def cells_of(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, int]:
    """Which convolutions have a place, and the side of its map, by the names and shapes of a network's tensors."""
    return {name.removesuffix(NAME): shape[-1] for name, shape in shapes if name.endswith(NAME) and len(shape) == 4}
