"""The solver that `auto` stands for with a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.values.settings import Solver

FIRST_ORDER = ("DDIM", "Euler", "FlowMatchEuler", "EDMEuler")
MULTISTEP = ("PNDM", "LMS", "DEIS", "UniPC", "DPMSolver", "EDMDPMSolver", "KDPM2Discrete", "Heun", "FlowMatchHeun")
"""Beginnings of the classes of diffusers that integrate the probability flow, in first order and in higher order."""


def of_scheduler(config: Mapping[str, Any]) -> Solver:
    """The solver for a checkpoint with this scheduler_config.json. Classes that draw noise at each step (LCM, TCD, ancestral,
    DDPM), and classes that are not known, stand for "lcm"."""
    name = str(config.get("_class_name", ""))
    if "Ancestral" in name or "LCM" in name or "Inverse" in name or "SDE" in name:
        return "lcm"
    if str(config.get("algorithm_type", "")).startswith("sde") or config.get("stochastic_sampling"):
        return "lcm"
    if name.startswith(MULTISTEP):
        return "dpmpp-2m"
    return "ddim" if name.startswith(FIRST_ORDER) else "lcm"
