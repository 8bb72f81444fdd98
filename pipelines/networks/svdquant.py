"""SVDQuant (Li et al. 2024, arXiv 2411.05007) for weights: a low-rank branch in floats beside a residual of 4 bits.

A layer computes y = x·W, x [.., in], W [in, out]. With a smooth scale λ > 0 for each input channel

    x̂ = x·diag(λ)⁻¹,   Ŵ = diag(λ)·W = U·Σ·V,   L₁ = U_r·Σ_r,  L₂ = V_r,   R = Ŵ − L₁·L₂
    y ≈ x̂·L₁·L₂ + x̂·Q(R)

The first r = RANK singular values hold the outliers, so that what is left of a group has a small range. Q has one scale for each
output and GROUP input channels; e is the value of the group with the greatest magnitude, with its sign:

    s = −e / 8,   q = clamp(round(R / s), −8, 7),   Q(R) = s·q

which uses all sixteen levels, and is NNCF's `int4_sym`. The paper has λ = max|X|^α / max|W|^(1−α) and searches α with recorded
inputs X. Here nothing is recorded: λ = max|W|^(ALPHA−1) where that makes ‖W − diag(λ)⁻¹·(L₁·L₂ + Q(R))‖ clearly smaller, else
there is no scale. Inputs stay in floats; the paper's W4A4 rounds them too.

`quantised` is the plain reference. `rewrite` splits the layers of a network. A library stores their residuals in 4 bits: NNCF for
OpenVINO (pipelines/graphs/backends/four_bits.py), torchao on a GPU (torchao_dtypes.py beside it).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

RANK = 32
GROUP = 64
ALPHA = 0.5
SMOOTHED_BELOW = 0.9
"""A scale, which costs a product for each input, is taken if the weight's error is below this part of that without one."""
SMALLEST = 2 * GROUP
"""Sides of a weight from which a layer is split: below, the branch holds as many numbers as the weight."""
INSIDE = ("transformer_blocks", "proj_in", "proj_out")
"""Names of what nn.Linear layers are split in: the text of a prompt and the timestep enter elsewhere, once for each prompt."""


@dataclass(frozen=True, slots=True)
class Split:
    """A weight [out, in] apart: smooth, λ [in] or None for ones; down [RANK, in] and up [out, RANK], the branch; residual
    [out, in], not yet rounded."""

    smooth: Tensor | None
    down: Tensor
    up: Tensor
    residual: Tensor

    @property
    def weight(self) -> Tensor:
        """[out, in]: what the layer computes with once the residual is in 4 bits."""
        whole = self.up @ self.down + quantised(self.residual)
        return whole if self.smooth is None else whole / self.smooth


def quantised(values: Tensor, group: int = GROUP) -> Tensor:
    """Q: [out, in] rounded to 4 bits in groups of input channels, as floats. ValueError where `in` is no multiple of group."""
    if values.shape[-1] % group:
        raise ValueError(f"{values.shape[-1]} input channels are no multiple of {group}")
    grouped = values.unflatten(-1, (-1, group))
    extreme = grouped.gather(-1, grouped.abs().argmax(-1, keepdim=True))
    scale = torch.where(extreme == 0, torch.ones_like(extreme), extreme / -8)
    return ((grouped / scale).round().clamp(-8, 7) * scale).flatten(-2)


def split(weight: Tensor, rank: int = RANK) -> Split:
    """A weight [out, in] apart, with a smooth scale where that loses clearly less."""
    weight = weight.float()
    without = split_as(weight, None, rank)
    smoothed = split_as(weight, weight.abs().amax(0).clamp_min(1e-6) ** (ALPHA - 1.0), rank)
    lost = [float((one.weight - weight).norm()) for one in (without, smoothed)]
    return smoothed if lost[1] < SMOOTHED_BELOW * lost[0] else without


def split_as(weight: Tensor, smooth: Tensor | None, rank: int) -> Split:
    """A weight [out, in], float32, apart with this smooth scale λ [in]; None for ones."""
    scaled = weight if smooth is None else weight * smooth
    with torch.random.fork_rng([weight.device] if weight.is_cuda else []):  # the search for the singular vectors is random
        torch.manual_seed(0)
        u, values, v = torch.svd_lowrank(scaled, rank + 8, niter=2)
    up, down = u[:, :rank] * values[:rank], v[:, :rank].T.contiguous()
    return Split(smooth, down, up, scaled - up @ down)


class LowRankLinear(nn.Module):
    """What a linear layer or a 1 x 1 convolution computes, from its split weight. `residual` alone goes to 4 bits."""

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        parts = split(layer.weight.detach().flatten(1))
        self.over_pictures = isinstance(layer, nn.Conv2d)
        self.smooth = None if parts.smooth is None else _fixed(1 / parts.smooth, layer)
        self.low_down, self.low_up = _linear(parts.down, layer), _linear(parts.up, layer)
        self.residual = _linear(parts.residual, layer)
        self.residual.bias = layer.bias  # type: ignore[assignment]  # or None

    def forward(self, x: Tensor) -> Tensor:
        """[.., in] to [.., out], or [B, in, H, W] to [B, out, H, W]."""
        x = x.movedim(1, -1) if self.over_pictures else x
        x = x if self.smooth is None else x * self.smooth
        y: Tensor = self.residual(x) + self.low_up(self.low_down(x))
        return y.movedim(-1, 1) if self.over_pictures else y


def _fixed(values: Tensor, like: nn.Module) -> nn.Parameter:
    return nn.Parameter(values.to(next(like.parameters()).dtype), requires_grad=False)


def _linear(weight: Tensor, like: nn.Module) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    made.weight = _fixed(weight, like)
    return made


def of_unet(network: nn.Module) -> bool:
    """Whether a module is a pass of a UNet or a ControlNet: the autoencoder's layers are not split."""
    return not hasattr(network, "lane")


def is_residual(name: str) -> bool:
    """Whether the dotted name is that of what a split layer stores in 4 bits."""
    return name.rpartition(".")[2] == "residual"


def worth(layer: nn.Module, name: str) -> bool:
    """Whether a layer of a UNet is split. name: its dotted name."""
    if isinstance(layer, nn.Conv2d) and (layer.stride != (1, 1) or layer.groups != 1):
        return False
    return type(layer) in (nn.Linear, nn.Conv2d) and worth_stored(name, layer.weight.shape)  # type: ignore[arg-type]


def worth_stored(name: str, shape: Sequence[int]) -> bool:
    """Whether a weight of a file is that of such a layer, by its dotted name there and its shape. Not whether a convolution has a
    stride or groups."""
    if len(shape) == 2:
        return not set(INSIDE).isdisjoint(name.split(".")) and worth_shape(*shape)
    return tuple(shape[2:]) == (1, 1) and worth_shape(*shape[:2])


def worth_shape(outputs: int, inputs: int) -> bool:
    """Whether a weight [out, in] is large enough."""
    return min(outputs, inputs) >= SMALLEST and inputs % GROUP == 0


def layers(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """(owner, its name for the layer, the layer) of all that are worth splitting."""
    for prefix, owner in network.named_modules():
        if isinstance(owner, LowRankLinear):
            continue
        for name, layer in owner.named_children():
            if worth(layer, f"{prefix}.{name}"):
                yield owner, name, layer


def rewrite(network: nn.Module) -> nn.Module:
    """Split these layers, in place. Networks that share modules share the work."""
    for owner, name, layer in list(layers(network)):
        setattr(owner, name, LowRankLinear(layer))  # type: ignore[arg-type]
    return network
