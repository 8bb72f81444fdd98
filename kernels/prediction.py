"""What a network's output means: x̂₀ for every prediction type, and the coefficients of one row's level."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Level:
    """Coefficients of one row: a, s at which it is, its guidance scale γ, and the shares of x̂₀, noise, x, and x̂₀ of the level
    before in its latent at the next level (all 0 at its last).

    a, s: numbers, or one per pixel, [1, h, w].
    """

    a: float | Tensor
    s: float | Tensor
    scale: float = 1.0
    next_x0: float = 0.0
    next_noise: float = 0.0
    next_x: float = 0.0
    next_previous: float = 0.0


def denoised(prediction: str, output: Tensor, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """x̂₀ from a network output, whatever its type; all [B, C, h, w], a and s broadcastable.

    epsilon: SD 1.5, SD-Turbo, SDXL-Turbo. sample: SDXL-Lightning at one step, pocket. v_prediction (Salimans & Ho 2022):
    v = a·ε − s·x₀. edm (Playground 2.5): −v. flow (rectified flow): v = ε − x₀; flow_reversed (InstaFlow): v = x₀ − ε.
    ValueError for others.
    """
    match prediction:
        case "epsilon":
            return (x - s * output) / a
        case "sample":
            return output
        case "v_prediction":
            return a * x - s * output
        case "edm":
            return a * x + s * output
        case "flow":
            return x - s * output
        case "flow_reversed":
            return x + s * output
    raise ValueError(f"unknown prediction type {prediction!r}")


def linear(prediction: str, a: float, s: float) -> tuple[float, float]:
    """(p, q) with x̂₀ = p·x + q·output. ValueError for a type that is not known."""
    one, nought = torch.ones(()), torch.zeros(())
    at = torch.tensor(a, dtype=torch.float64), torch.tensor(s, dtype=torch.float64)
    return float(denoised(prediction, nought, one, *at)), float(denoised(prediction, one, nought, *at))
