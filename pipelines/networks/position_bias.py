"""A bias for each position in the frame, for convolutions of a UNet. Pictures from noise alone need it to find top and bottom.

Without it a convolutional UNet can locate a position only by the zero padding around the frame, and positions learnt at one
size are wrong at another (Islam et al. 2020, arXiv 2001.08248). Only the class of these convolutions differs from the stock
module. diffusers ignores the added tensors when it loads a folder, so its pipelines need the UNet object from our loader.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAME = ".place"
FASTER = 10.0
"""The stored map is divided by this, so an optimiser with one learning rate moves the map faster than the weights."""


class PositionBiasConv2d(nn.Conv2d):
    """A convolution that adds a learnt map (1, C, p, p), stretched bilinearly to h x w, to its output (N, C, h, w)."""

    place: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        return self.add_map(super().forward(x))

    def add_map(self, y: Tensor) -> Tensor:
        """The output `y` of the convolution plus the map."""
        bias = self.place * FASTER
        if bias.shape[-2:] != y.shape[-2:]:
            bias = F.interpolate(bias.float(), size=y.shape[-2:], mode="bilinear", align_corners=False)
        return y + bias.to(y.dtype)


def add(module: nn.Module, cells: Mapping[str, int]) -> None:
    """Give each named convolution a map of p x p zeros; `cells` is name → p. Raises ValueError for other layers."""
    for name, side in cells.items():
        try:
            convolution = module.get_submodule(name)
        except AttributeError as error:
            raise ValueError(f"{name}: no such layer for a position bias") from error
        if not isinstance(convolution, nn.Conv2d):
            raise ValueError(f"{name}: a {type(convolution).__name__}; only convolutions can have a position bias")
        convolution.__class__ = PositionBiasConv2d
        weight = convolution.weight
        convolution.place = nn.Parameter(torch.zeros(1, len(weight), side, side, dtype=weight.dtype, device=weight.device))


def cells_of(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, int]:
    """The convolutions with a position bias and the side of their maps, from the names and shapes of a network's tensors."""
    return {name.removesuffix(NAME): shape[-1] for name, shape in shapes if name.endswith(NAME) and len(shape) == 4}
