"""The form of every solver: a frame's latent at its next level as one affine step. So a live switch of solver builds nothing.

    x′ = k_x·x + k_0·x̂₀ + k_p·x̂₀_prev + k_ε·ε

x is the latent of the present level, x̂₀ its prediction (after guidance, ω and map), x̂₀_prev the prediction of the same frame's
level before, ε fresh noise. A solver chooses the weights, from the levels x = a·x₀ + s·ε alone. So it is the same for every
prediction type, and for diffusion (a² + s² = 1) and flow (a + s = 1) models.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

Number = float | Tensor
"""One number, or one per pixel, [1, h, w]."""


@dataclass(frozen=True, slots=True)
class NoiseLevel:
    """A level x = a·x₀ + s·ε; a and s above 0."""

    a: Number
    s: Number


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of one step, in the order of x, x̂₀, x̂₀_prev and ε. The number 0 leaves its term out."""

    x: Number = 0.0
    x0: Number = 0.0
    previous: Number = 0.0
    noise: Number = 0.0

    def step(self, x: Tensor, x0: Tensor, previous: Tensor | None, noise: Tensor | None) -> Tensor:
        """x′ [C, h, w], of terms of that shape. ValueError for a missing term whose weight is not the number 0."""
        total = self.x0 * x0
        for weight, term in ((self.x, x), (self.previous, previous), (self.noise, noise)):
            if isinstance(weight, float) and weight == 0.0:
                continue
            if term is None:
                raise ValueError("a step with a weight needs its term")
            total = total + weight * term
        return total
