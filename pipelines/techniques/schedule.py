"""Noise schedules, strength and prediction types, as pure functions of values.

Every model here lives on x = a·x₀ + s·ε. A diffusion model has a = √ᾱ, s = √(1−ᾱ); a flow model a = 1−σ, s = σ. What the network
returns (its prediction type) is data on the schedule; `denoised` is the only place that reads it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from kernels.prediction import denoised as denoised  # x̂₀ from an output, whatever its type
from pipelines.techniques import edm
from pipelines.techniques.solvers.affine import NoiseLevel
from pipelines.techniques.solvers.choice import of_scheduler
from pipelines.values.settings import Solver
from pipelines.values.types import ModelError, SettingsError

Prediction = Literal["epsilon", "sample", "v_prediction", "edm", "flow", "flow_reversed"]
PREDICTIONS: tuple[str, ...] = get_args(Prediction)
FRACTION = 1_000_000
"""Parts of a timestep in `Schedule.model_timestep` where timesteps are fractions: graphs take whole numbers."""

MAX_POWER = 4.0  # of `Schedule.power`: beyond, the second step would be next to the last


@dataclass(frozen=True, slots=True)
class Schedule:
    """signal a and sigma s for each of the T training timesteps, float32 [T]; prediction type; trained timesteps if few.

    power: how timesteps fall over the steps of a frame, t₀·(1 − k/n)^power. 1 is evenly; with more, later steps add less noise
    and keep more of what the ones before drew.

    first: what the network calls timestep 0 (a flow's times end at T, not at T − 1). shift: the share of the timestep that the
    network gets, 1 but for NitroFusion (arXiv 2412.02030), which takes a latent of any level for one of a lower level.

    fractions: [T], the network's timestep at each level where it is no whole number (EDM); None for other models.

    solver: the one that `auto` stands for.
    """

    signal: Tensor
    sigma: Tensor
    prediction: Prediction
    trained: tuple[int, ...] = ()
    first: int = 0
    shift: float = 1.0
    power: float = 1.0
    fractions: Tensor | None = None
    solver: Solver = "lcm"

    def __post_init__(self) -> None:
        if self.signal.ndim != 1 or self.signal.shape != self.sigma.shape:
            raise ValueError("signal and sigma must be vectors of the same length")
        if not 0.0 < self.shift <= 1.0:
            raise ValueError(f"shift {self.shift} is out of range; above 0 to 1 is allowed")
        if not 0.0 < self.power <= MAX_POWER:
            raise ValueError(f"power {self.power} is out of range; above 0 to {MAX_POWER:g} is allowed")

    def model_timestep(self, timestep: int) -> int:
        """The timestep as the network takes it, in parts of 1/FRACTION where timesteps are fractions."""
        if self.fractions is not None:
            return round(float(self.fractions[timestep]) * FRACTION)
        return int(timestep * self.shift) + self.first

    def level(self, timestep: int) -> NoiseLevel:
        """What a latent at a timestep holds, as numbers."""
        return NoiseLevel(float(self.signal[timestep]), float(self.sigma[timestep]))

    def model_coefficients(self) -> tuple[Tensor, Tensor]:
        """(a, s), each [T], with which the network's output at a timestep is read; signal and sigma themselves without shift."""
        if self.shift == 1.0:
            return self.signal, self.sigma
        index = (torch.arange(self.length, dtype=torch.float64) * self.shift).long()
        return self.signal[index], self.sigma[index]

    @property
    def length(self) -> int:
        return self.signal.shape[0]

    def resolved(self, solver: str) -> Solver:
        """The solver of `Settings.solver`. SettingsError for one that this model cannot take."""
        if solver == "auto":
            return self.solver
        if self.shift != 1.0 and solver != "lcm":
            raise SettingsError("solver", f"{solver} does not fit a model that reads a latent as one of a lower level; lcm does")
        return cast(Solver, solver)

    def timesteps(self, strength: float, steps: int, solver: Solver = "lcm") -> tuple[int, ...]:
        """n timesteps down from t₀ = round(strength·(T−1)), which does not depend on n. lcm: as `power` says; other solvers:
        with trailing spacing, whatever the power, which is for steps that redraw what they noise.

        A model trained at few timesteps gets the nearest of them, and none above the one that is nearest to t₀: with less
        strength it makes fewer steps, as diffusers does. SettingsError if it has fewer than `steps`.
        """
        if not 0.0 <= strength <= 1.0 or steps < 1:
            raise ValueError(f"strength {strength} or steps {steps} out of range")
        t0 = round(strength * (self.length - 1))
        pool = beginning_at(t0, self.trained, steps) if self.trained else ()
        steps = min(steps, len(pool)) if pool else steps
        chosen = falling(t0, steps, self.power) if solver == "lcm" else trailing(t0, steps)
        return snap(chosen, pool) if pool else chosen


def falling(first: int, steps: int, power: float = 1.0) -> tuple[int, ...]:
    """The timesteps of `steps` steps from `first` down, first·(1 − k/n)^power."""
    return tuple(round(first * ((steps - k) / steps) ** power) for k in range(steps))


def trailing(first: int, steps: int) -> tuple[int, ...]:
    """The timesteps of `steps` steps from `first` down, even from its own end ("trailing" in diffusers, arXiv 2305.08891):
    round((first + 1)·(1 − k/n)) − 1."""
    return tuple(max(0, round((first + 1) * (steps - k) / steps) - 1) for k in range(steps))


def beginning_at(first: int, trained: tuple[int, ...], steps: int) -> tuple[int, ...]:
    """The trained timesteps from the one nearest to `first` down. SettingsError if there are fewer trained ones than steps."""
    if steps > len(trained):
        raise SettingsError("steps", f"this model was trained at {len(trained)} timestep(s); at most as many steps are allowed")
    nearest = min(trained, key=lambda t: (abs(t - first), -t))
    return tuple(t for t in trained if t <= nearest)


def snap(timesteps: tuple[int, ...], trained: tuple[int, ...]) -> tuple[int, ...]:
    """Each timestep moved to the nearest trained one, strictly decreasing. There must be as many trained ones."""
    pool = sorted(trained, reverse=True)
    chosen: list[int] = []
    first = 0
    for index, t in enumerate(timesteps):
        last = len(pool) - (len(timesteps) - index - 1)  # leave one for each step still to come
        best = min(range(first, last), key=lambda i: abs(pool[i] - t))
        chosen.append(pool[best])
        first = best + 1
    return tuple(chosen)


def model_output(prediction: Prediction, x0: Tensor, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """The network output from which `denoised` reads x̂₀ at this x: its inverse."""
    if prediction == "sample":
        return x0
    eps = implied_noise(x0, x, a, s)
    if prediction == "epsilon":
        return eps
    if prediction in ("v_prediction", "edm"):
        v = a * eps - s * x0
        return v if prediction == "v_prediction" else -v
    return x0 - eps if prediction == "flow_reversed" else eps - x0


def implied_noise(x0: Tensor, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """The ε for which x = a·x₀ + s·ε. s is kept from zero: at t = 0 a diffusion schedule has s ≈ 0.01 to 0.03."""
    return (x - a * x0) / s.clamp_min(1e-4)


def noised(x0: Tensor, noise: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """x = a·x₀ + s·ε."""
    return (a * x0).addcmul_(noise, s)


def from_config(
    config: Mapping[str, Any],
    trained: tuple[int, ...] = (),
    prediction: str | None = None,
    shift: float = 1.0,
    distilled: bool = False,
) -> Schedule:
    """The schedule that a diffusers scheduler_config.json describes. ModelError names a field it cannot honour.

    prediction overrides the configuration's, for weights distilled to predict something else. Beside diffusers' own fields
    `timestep_power` is read, 1 where it is missing. distilled: the weights take few stochastic steps, whatever solver the
    configuration is for.
    """
    length = int(config.get("num_train_timesteps", 1000))
    power = _power(config.get("timestep_power", 1.0))
    is_flow = str(config.get("_class_name", "")).startswith("FlowMatch")
    prediction = prediction or ("flow" if is_flow else config.get("prediction_type", "epsilon"))
    if prediction not in PREDICTIONS:
        raise ModelError(f"scheduler_config.json: prediction_type {prediction!r} is not one of {', '.join(PREDICTIONS)}")
    solver = "lcm" if distilled else of_scheduler(config)
    if edm.is_edm(config):
        return _edm(config, length, prediction, trained, power, solver)
    kind = cast(Prediction, prediction)
    if kind in ("flow", "flow_reversed"):
        sigma = torch.arange(1, length + 1, dtype=torch.float64) / length
        signal = (1 - sigma).clamp_min(1e-6)  # so that λ = ln(a/s) stays finite at the noisy end
        return Schedule(signal.float(), sigma.float(), kind, trained, first=1, power=power, solver=solver)
    alphas = torch.cumprod(1.0 - _betas(config, length), dim=0)
    if config.get("rescale_betas_zero_snr"):
        alphas = _zero_terminal_snr(alphas)
    signal, sigma = alphas.sqrt().float(), (1 - alphas).sqrt().float()
    return Schedule(signal, sigma, kind, trained, shift=shift, power=power, solver="lcm" if shift != 1.0 else solver)


def _edm(
    config: Mapping[str, Any], length: int, prediction: str, trained: tuple[int, ...], power: float, solver: Solver
) -> Schedule:
    kind = edm.PREDICTIONS.get(prediction)
    if kind is None:
        allowed = ", ".join(name for name in edm.PREDICTIONS if name != "edm")
        raise ModelError(f"scheduler_config.json: prediction_type {prediction!r} of an EDM model is not one of {allowed}")
    signal, sigma, times = edm.levels(edm.sigmas(config, length), edm.data_deviation(config))
    return Schedule(signal.float(), sigma.float(), cast(Prediction, kind), trained, power=power, fractions=times, solver=solver)


def _power(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0.0 < given <= MAX_POWER:
        raise ModelError(f"scheduler_config.json: timestep_power {given!r} is not a number above 0 and up to {MAX_POWER:g}")
    return float(given)


def _betas(config: Mapping[str, Any], length: int) -> Tensor:
    given = config.get("trained_betas")
    if given is not None:
        if len(given) != length:
            raise ModelError(f"scheduler_config.json: trained_betas has {len(given)} entries; num_train_timesteps is {length}")
        return torch.tensor(given, dtype=torch.float64)
    missing = [field for field in ("beta_schedule", "beta_start", "beta_end") if config.get(field) is None]
    if missing:
        raise ModelError(f"scheduler_config.json: has no {missing[0]}")
    kind, low, high = config["beta_schedule"], float(config["beta_start"]), float(config["beta_end"])
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
