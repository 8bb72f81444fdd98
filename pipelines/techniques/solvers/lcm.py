"""The stochastic step of consistency models (LCM, arXiv 2310.04378): go to x̂₀, then noise it again for the next level.

    x′ = a′·x̂₀ + s′·ε,  ε fresh for each level

Models distilled to few steps are trained for it: each level predicts x̂₀ anew. Nothing of x but x̂₀ reaches the next level, so what
x̂₀ lacks is lost. In diffusers: LCMScheduler.
"""

from __future__ import annotations

from pipelines.techniques.solvers.affine import NoiseLevel, Weights


def weights(after: NoiseLevel) -> Weights:
    """The step to level `after`."""
    return Weights(x0=after.a, noise=after.s)
