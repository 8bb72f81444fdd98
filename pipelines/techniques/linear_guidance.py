"""LinearAG (Castillo et al., "Adaptive Guidance", arXiv 2312.12487): the unconditional prediction as a linear estimate.

    û_k = Σ_{i≤k} β_i·c_i + Σ_{i<k, i computed} α_i·u_i

c_i, u_i are the conditional and the unconditional prediction at level i of one frame, α and β numbers for each level k, by
ordinary least squares over frames in which u_k was computed. The paper computes u at every second level of the first half, and
at none of the second half; so here (`computed`). It fits the numbers once, offline, for a model and a number of steps. A stream
has any strength, solver and γ, so here each session fits them from its own frames: every RECHECK-th frame computes u_k, and
earlier frames count half each time.

Predictions are x̂₀ here, the paper's are ε. For one x they are affine in each other; but with new noise at each level only x̂₀ can
be compared between levels. The terms are written as c_k, c_k − c_i and c_i − u_i, which span the same estimates, for c_k − u_k.
Least squares with a small ridge then falls back on û_k = c_k, no guidance, where frames do not decide.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipelines.techniques.gate import Thumb

Predictions = Mapping[int, tuple[Tensor, Tensor]]
"""Level → (x̂₀_c, x̂₀_u), [C, h, w] each; x̂₀_u is computed or estimated."""

RECHECK = 8
"""Frames after which u_k is computed again."""

STAGGER = 2
"""Frames between the first ones of two levels."""

KEPT = 0.5
"""Weight of earlier frames when a new one counts."""

RIDGE = 1e-5
"""Of the mean square of the terms."""


def computed(position: int, count: int) -> bool:
    """Whether u is always computed at the guided level number `position` of `count`."""
    return position == 0 or (position % 2 == 0 and position < count / 2)


def terms(before: Predictions, levels: Sequence[int], count: int, conditional: Tensor) -> Tensor:
    """What c_k − û_k is a sum of, [R, C·h·w]. levels: the guided ones before k, with predictions in `before`; count: all of the
    frame. conditional: c_k."""
    changes = [conditional - before[level][0] for level in levels]
    known = [before[level][0] - before[level][1] for place, level in enumerate(levels) if computed(place, count)]
    return torch.stack([conditional, *changes, *known]).flatten(1)


@dataclass(frozen=True, slots=True, eq=False)
class LinearEstimate:
    """The estimate of one level of one session.

    key: what it belongs to. products [R, R], moments [R]: of the terms, and with c_k − u_k, float64. due: age in frames at which
    u_k is computed again. age: frames since.
    """

    key: Hashable
    products: Tensor
    moments: Tensor
    due: int = RECHECK
    age: int = 0

    def reusable(self, key: Hashable, thumb: Thumb | None, threshold: float) -> bool:
        """Whether a frame with this conditioning needs no negative row. The numbers are not of one scene, so the input does not
        count, and there is no threshold."""
        return self.key == key and self.age < self.due

    def aged(self) -> LinearEstimate:
        return replace(self, age=self.age + 1)

    @property
    def numbers(self) -> Tensor:
        """[R]; no value goes to the host."""
        ridge = RIDGE * self.products.diagonal().mean() + 1e-12
        matrix = self.products + ridge * torch.eye(len(self.moments), dtype=torch.float64, device=self.products.device)
        return torch.linalg.solve_ex(matrix, self.moments)[0]

    def unconditional(self, found: Tensor, conditional: Tensor) -> Tensor:
        """û_k [C, h, w], of the terms and c_k."""
        return conditional - (self.numbers.to(found.dtype) @ found).view_as(conditional)


def measured(
    before: LinearEstimate | None, level: int, key: Hashable, found: Tensor, conditional: Tensor, negative: Tensor
) -> LinearEstimate:
    """The estimate after a frame whose u_k, `negative`, was computed. before: the one so far, which counts under the same key."""
    found = found.double()
    products, moments = found @ found.T, found @ (conditional - negative).flatten().double()
    if before is None or before.key != key:
        return LinearEstimate(key, products, moments, RECHECK - STAGGER * level % RECHECK)
    return LinearEstimate(key, products + KEPT * before.products, moments + KEPT * before.moments)
