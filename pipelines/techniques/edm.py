"""EDM models (arXiv 2206.00364), such as Playground 2.5 and CosXL, as levels x = a·x₀ + s·ε like those of every other model.

EDM noises to x₀ + σ·ε and gives the network c_in times that, with c_in = 1/√(σ² + σ_d²) and σ_d the deviation of the data. In
latents divided by σ_d this input is a·x₀ + s·ε with a = σ_d/√(σ² + σ_d²) and s = σ/√(σ² + σ_d²). EDM's c_skip and c_out
become x̂₀ = a·x + s·F, or a·x − s·F for "v_prediction", where F is the network's output. The network's timestep is ln(σ)/4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.values.types import ModelError

if TYPE_CHECKING:
    from torch import Tensor

PREDICTIONS = {"epsilon": "edm", "v_prediction": "v_prediction", "edm": "edm"}
"""What EDM's schedulers call a prediction → its name here."""

SCHEDULES = ("karras", "exponential")
CONTINUOUS = "continuous"


def is_edm(config: Mapping[str, Any]) -> bool:
    """Whether a scheduler's configuration describes an EDM model. EulerDiscreteScheduler with continuous timesteps and velocity
    computes EDM with a deviation of 1."""
    if str(config.get("_class_name", "")).startswith("EDM"):
        return True
    return config.get("timestep_type") == CONTINUOUS and config.get("prediction_type") == "v_prediction"


def data_deviation(config: Mapping[str, Any]) -> float:
    """σ_d, 1 for models that are not EDM. The UNet's latents are divided by it. Raises ModelError."""
    if not is_edm(config) or config.get("timestep_type") == CONTINUOUS:
        return 1.0
    return _positive(config, "sigma_data")


def sigmas(config: Mapping[str, Any], length: int) -> Tensor:
    """σ of each training timestep, float64 [T], ascending. Raises ModelError, which names the field."""
    import torch

    low, high = _positive(config, "sigma_min"), _positive(config, "sigma_max")
    if low >= high:
        raise ModelError(f"scheduler_config.json: sigma_min {low:g} is not below sigma_max {high:g}")
    kind = config.get("sigma_schedule", "karras")
    ramp = torch.linspace(0, 1, length, dtype=torch.float64)
    if kind == "exponential":
        return low * (high / low) ** ramp
    if kind != "karras":
        raise ModelError(f"scheduler_config.json: sigma_schedule {kind!r} is not one of {', '.join(SCHEDULES)}")
    rho = _positive(config, "rho") if config.get("timestep_type") != CONTINUOUS else 7.0
    return (low ** (1 / rho) + ramp * (high ** (1 / rho) - low ** (1 / rho))) ** rho


def levels(sigma: Tensor, deviation: float) -> tuple[Tensor, Tensor, Tensor]:
    """(a, s, the network's timestep) of each σ."""
    spread = (sigma**2 + deviation**2).sqrt()
    return deviation / spread, sigma / spread, sigma.log() / 4


def _positive(config: Mapping[str, Any], field: str) -> float:
    value = config.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < float("inf"):
        raise ModelError(f"scheduler_config.json: {field} {value!r} is not a positive number")
    return float(value)
