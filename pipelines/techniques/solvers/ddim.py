"""DDIM without noise (arXiv 2010.02502, eta 0): keep the noise that x̂₀ implies, and lower its share.

    ε̂ = (x − a·x̂₀)/s
    x′ = a′·x̂₀ + s′·ε̂ = (s′/s)·x + (a′ − a·s′/s)·x̂₀

It is Euler's method for the probability-flow equation, with x/a over s/a. For a flow (a = 1 − s, v = ε̂ − x̂₀) it is Euler's step
x′ = x + (s′ − s)·v. In diffusers: DDIMScheduler, FlowMatchEulerDiscreteScheduler.
"""

from __future__ import annotations

from pipelines.techniques.solvers.affine import NoiseLevel, Weights


def weights(here: NoiseLevel, after: NoiseLevel) -> Weights:
    """The step from level `here` to level `after`; both may have one number per pixel."""
    kept = after.s / here.s
    return Weights(x=kept, x0=after.a - here.a * kept)
