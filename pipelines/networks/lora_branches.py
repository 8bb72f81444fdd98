"""Low-rank branches beside layers, each times a gain that is an input: y = W·x + Σ gain · B·(A·x).

For compilers that make constants of the weights (OpenVINO): another gain needs no other graph. Every row has gains of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Gains:
    """Holds the gains [B, N] of the pass that runs, for the branches in it."""

    def __init__(self) -> None:
        self.value = torch.zeros(1, 0)


class WithGains(nn.Module):
    """A module whose last input are the gains [B, N]."""

    def __init__(self, inner: nn.Module, gains: Gains) -> None:
        super().__init__()
        self.inner, self.gains = inner, gains

    def forward(self, *inputs: Tensor) -> Any:
        self.gains.value = inputs[-1]
        return self.inner(*inputs[:-1])


class Branched:
    """A mix-in before nn.Linear or nn.Conv2d, or a class derived from them. down [R, in, ...], up [out, R]: the factors of all
    branches; owner [R]: the gain of each component."""

    down: Tensor
    up: Tensor
    owner: Tensor
    gains: Gains

    def forward(self, x: Tensor) -> Tensor:
        own: Tensor = super().forward(x)  # type: ignore[misc]
        return own + self.branch(x)

    def branch(self, x: Tensor) -> Tensor:
        """What the branches add to the layer's output."""
        gains = self.gains.value.index_select(1, self.owner).to(x.dtype)
        if isinstance(self, nn.Conv2d):
            return F.conv2d(self._conv_forward(x, self.down, None) * gains[..., None, None], self.up[..., None, None])
        between = (1,) * (x.ndim - 2)
        return F.linear(F.linear(x, self.down) * gains.reshape(gains.shape[0], *between, -1), self.up)


def add(layer: nn.Module, factors: Sequence[tuple[Tensor, Tensor]], owners: Sequence[int], gains: Gains) -> None:
    """Give a layer these branches, (down [R, in, ...], up [out, R]), and to each the number of its gain. In place: only the
    class differs, as in position_bias.py. Raises ValueError for other layers, and for grouped convolutions."""
    if not isinstance(layer, (nn.Linear, nn.Conv2d)) or getattr(layer, "groups", 1) != 1:
        raise ValueError(f"a {type(layer).__name__} takes no low-rank branch")
    cls = type(layer)
    layer.__class__ = type(f"Branched{cls.__name__}", (Branched, cls), {})
    layer.register_buffer("down", torch.cat([down for down, _ in factors]), persistent=False)
    layer.register_buffer("up", torch.cat([up for _, up in factors], dim=1), persistent=False)
    ranks = torch.tensor([len(down) for down, _ in factors])
    layer.register_buffer("owner", torch.tensor(list(owners)).repeat_interleave(ranks), persistent=False)
    setattr(layer, "gains", gains)  # noqa: B010 - modules are typed to hold tensors
