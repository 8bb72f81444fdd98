"""SiLU after group normalisation, channels-last, with what is added to each channel before: how a resnet of a UNet comes to each
of its two convolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.dispatch import takes


def group_norm_silu_reference(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, added: Tensor | None = None
) -> Tensor:
    """What `group_norm_silu` computes."""
    x = x if added is None else x + added[..., None, None]
    return F.silu(F.group_norm(x, groups, weight, bias, eps))


def group_norm_silu(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, added: Tensor | None = None) -> Tensor:
    """silu(group_norm(x + added)·weight + bias) of [B, C, H, W]; weight, bias [C], added [B, C]. In x's dtype and layout; sums in
    float32 in the kernel, which takes channels-last tensors only."""
    if not (takes(x, weight, bias, added) and x.is_contiguous(memory_format=torch.channels_last)):
        return group_norm_silu_reference(x, groups, weight, bias, eps, added)
    from kernels.triton_group_norm_silu import group_norm_silu_kernel

    return group_norm_silu_kernel(x, groups, weight, bias, eps, added)


class NormActivation(nn.Module):
    """activation(norm(x + added)). kernels: whether a kernel may take the place of both, where they are what it computes; set by
    a backend."""

    def __init__(self, norm: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.norm, self.activation = norm, activation
        self.kernels = False

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        norm = self.norm
        if self.kernels and isinstance(norm, nn.GroupNorm) and isinstance(self.activation, nn.SiLU):
            return group_norm_silu(x, norm.num_groups, norm.weight, norm.bias, norm.eps, added)
        normed: Tensor = self.activation(norm(x if added is None else x + added[..., None, None]))
        return normed
