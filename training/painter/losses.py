"""What a painted picture is compared by: colour at several sizes, edges, and the statistics of HED's features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from training.painter.hed import gram

BLOCK_WEIGHTS = (0.3, 1.0, 1.0, 1.0)
"""Of HED's blocks: with a full share of the first a network drew a lattice of its own, which that block pays for."""


def colour(painted: Tensor, target: Tensor, sizes: Sequence[int] = (1, 2, 4, 8)) -> Tensor:
    """Mean L1 over averages of these sizes; [B, 3, H, W] each."""
    terms = [F.l1_loss(F.avg_pool2d(painted, k), F.avg_pool2d(target, k)) for k in sizes]
    return torch.stack(terms).mean()


def edges(painted: Tensor, target: Tensor) -> Tensor:
    """L1 of differences between neighbours."""
    across = F.l1_loss(painted.diff(dim=3), target.diff(dim=3))
    return across + F.l1_loss(painted.diff(dim=2), target.diff(dim=2))


def style(grams: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """log(1 + squared distance of Gram matrices [B, C, C] as a share of the wanted ones' own size), by block; a mean over rows.

    The logarithm keeps a row of a faint look, whose own size is small, from drowning the others.
    """
    terms = [
        weight * torch.log1p((g - w).square().sum((1, 2)) / w.square().sum((1, 2)).clamp_min(1e-6)).mean()
        for weight, g, w in zip(BLOCK_WEIGHTS, grams, wanted, strict=False)
    ]
    return torch.stack(terms).sum()


def content(features: Tensor, wanted: Tensor) -> Tensor:
    """Squared distance of one block's features as a share of the wanted ones' power."""
    return F.mse_loss(features.float(), wanted.float()) / wanted.float().square().mean().clamp_min(1e-6)


def features(painted: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """`content` of every block, weighted."""
    pairs = zip(BLOCK_WEIGHTS, painted, wanted, strict=False)
    return torch.stack([weight * content(p, w) for weight, p, w in pairs]).sum()


def grams(found: Sequence[Tensor]) -> list[Tensor]:
    return [gram(feature) for feature in found]
