"""DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2): DDIM's step towards an x̂₀ that is extrapolated from two levels.

    λ = ln(a/s),  h = λ′ − λ,  r = (λ − λ_prev)/h
    D = (1 + 1/(2r))·x̂₀ − 1/(2r)·x̂₀_prev
    x′ = (s′/s)·x − a′·(e^(−h) − 1)·D

−a′·(e^(−h) − 1) = a′ − a·s′/s is DDIM's weight of x̂₀. A frame's first level has no level before it and takes DDIM's step. Its
last one gives x̂₀, as with every solver. In diffusers: DPMSolverMultistepScheduler with "dpmsolver++", order 2 and "midpoint".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pipelines.techniques.solvers.affine import Number, Weights


def extrapolation(signal: Sequence[float], sigma: Sequence[float]) -> float:
    """1/(2r) for the levels before, here and after, given by their a (signal) and s (sigma). 0, so first order, where the noise
    did not fall from before to here, as between equal timesteps at a low strength."""
    before, here, after = (math.log(a / s) for a, s in zip(signal, sigma, strict=True))
    return (after - here) / (2 * (here - before)) if here > before else 0.0


def weights(first: Weights, factor: Number) -> Weights:
    """DDIM's step `first`, with x̂₀ extrapolated by factor = 1/(2r), one number or one per pixel; 0 is first order."""
    return replace(first, x0=first.x0 * (1 + factor), previous=-1.0 * first.x0 * factor)
