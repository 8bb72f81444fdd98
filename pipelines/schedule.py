"""Noise schedules, strength and prediction types, as pure functions of values.

Every model here lives on x = a·x₀ + s·ε. A diffusion model has a = √ᾱ, s = √(1−ᾱ); a flow model a = 1−σ, s = σ. What the network
returns (its prediction type) is data on the schedule; `denoised` is the only place that knows the types.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pipelines.types import ModelError, SettingsError

Prediction = Literal["epsilon", "sample", "v_prediction", "flow", "flow_reversed"]
PREDICTIONS: tuple[str, ...] = get_args(Prediction)


@dataclass(frozen=True, slots=True)
class Schedule:
    """signal a and sigma s for each of the T training timesteps, float32 [T]; prediction type; trained timesteps if few."""

    signal: Tensor
    sigma: Tensor
    prediction: Prediction
    trained: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.signal.ndim != 1 or self.signal.shape != self.sigma.shape:
            raise ValueError("signal and sigma must be vectors of the same length")

    @property
    def length(self) -> int:
        return self.signal.shape[0]

    def timesteps(self, strength: float, steps: int) -> tuple[int, ...]:
        """n timesteps, evenly down from t₀ = round(strength·(T−1)); t₀ does not depend on n.

        A model trained at few timesteps gets the nearest of them; SettingsError if it has fewer than `steps`.
        """
        if not 0.0 <= strength <= 1.0 or steps < 1:
            raise ValueError(f"strength {strength} or steps {steps} out of range")
        t0 = round(strength * (self.length - 1))
        even = tuple(round(t0 * (steps - k) / steps) for k in range(steps))
        return even if not self.trained else snap(even, self.trained)


def snap(timesteps: tuple[int, ...], trained: tuple[int, ...]) -> tuple[int, ...]:
    """Each timestep moved to the nearest trained one, strictly decreasing. SettingsError if there are too few."""
    if len(timesteps) > len(trained):
        raise SettingsError("steps", f"this model was trained at {len(trained)} timestep(s); at most as many steps are allowed")
    pool = sorted(trained, reverse=True)
    chosen: list[int] = []
    first = 0
    for index, t in enumerate(timesteps):
        last = len(pool) - (len(timesteps) - index - 1)  # leave one for each step still to come
        best = min(range(first, last), key=lambda i: abs(pool[i] - t))
        chosen.append(pool[best])
        first = best + 1
    return tuple(chosen)


def denoised(prediction: Prediction, output: Tensor, x: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """(x̂₀, ε) from a network output, whatever its type; all [B, C, h, w], a and s broadcastable.

    epsilon: SD 1.5, SD-Turbo, SDXL-Turbo. sample: SDXL-Lightning at one step, pocket. v_prediction (Salimans & Ho 2022):
    v = a·ε − s·x₀. flow (rectified flow): v = ε − x₀; flow_reversed (InstaFlow): v = x₀ − ε.
    """
    if prediction == "epsilon":
        return (x - s * output) / a, output
    if prediction == "sample":
        x0 = output
    elif prediction == "v_prediction":
        return a * x - s * output, s * x + a * output
    elif prediction == "flow":
        return x - s * output, x + a * output
    elif prediction == "flow_reversed":
        return x + s * output, x - a * output
    else:
        raise ValueError(f"unknown prediction type {prediction!r}")
    return x0, implied_noise(x0, x, a, s)


def stated(prediction: Prediction, x0: Tensor, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """The network output from which `denoised` reads x̂₀ at this x: its inverse."""
    if prediction == "sample":
        return x0
    eps = implied_noise(x0, x, a, s)
    if prediction == "epsilon":
        return eps
    if prediction == "v_prediction":
        return a * eps - s * x0
    return x0 - eps if prediction == "flow_reversed" else eps - x0


def implied_noise(x0: Tensor, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """The ε for which x = a·x₀ + s·ε. s is kept from zero: at t = 0 a diffusion schedule has s ≈ 0.01 to 0.03."""
    return (x - a * x0) / s.clamp_min(1e-4)


def noised(x0: Tensor, noise: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """x = a·x₀ + s·ε."""
    return a * x0 + s * noise


def from_config(config: Mapping[str, Any], trained: tuple[int, ...] = ()) -> Schedule:
    """The schedule that a diffusers scheduler_config.json describes. ModelError names a field it cannot honour."""
    length = int(config.get("num_train_timesteps", 1000))
    prediction = config.get("prediction_type", "epsilon")
    if str(config.get("_class_name", "")).startswith("FlowMatch"):
        sigma = torch.arange(1, length + 1, dtype=torch.float64) / length
        return Schedule((1 - sigma).float(), sigma.float(), "flow", trained)
    if prediction not in PREDICTIONS:
        raise ModelError(f"scheduler_config.json: prediction_type {prediction!r} is not one of {', '.join(PREDICTIONS)}")
    alphas = torch.cumprod(1.0 - _betas(config, length), dim=0)
    if config.get("rescale_betas_zero_snr"):
        alphas = _zero_terminal_snr(alphas)
    return Schedule(alphas.sqrt().float(), (1 - alphas).sqrt().float(), prediction, trained)


def _betas(config: Mapping[str, Any], length: int) -> Tensor:
    kind = config.get("beta_schedule", "scaled_linear")
    low, high = float(config.get("beta_start", 0.00085)), float(config.get("beta_end", 0.012))
    if kind == "linear":
        return torch.linspace(low, high, length, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(low**0.5, high**0.5, length, dtype=torch.float64) ** 2
    if kind == "squaredcos_cap_v2":  # Nichol & Dhariwal 2021
        bar = [math.cos((i / length + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(length + 1)]
        return torch.tensor([min(1 - bar[i + 1] / bar[i], 0.999) for i in range(length)], dtype=torch.float64)
    raise ModelError(f"scheduler_config.json: beta_schedule {kind!r} is not one of linear, scaled_linear, squaredcos_cap_v2")


def _zero_terminal_snr(alphas: Tensor) -> Tensor:
    """Lin et al. 2023: shift and scale √ᾱ so that the last step holds no signal (kept at 1e-4 so that x̂₀ stays finite)."""
    root = alphas.sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return root.clamp_min(1e-4) ** 2
