"""The configuration of a model's scheduler: diffusers' defaults for missing fields, and what a single file states of its own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pipelines.checkpoints.loader.files import Weights
from pipelines.values.types import ModelError

BETAS = ("beta_start", "beta_end", "beta_schedule")
EDM = ("sigma_min", "sigma_max", "sigma_data", "rho", "sigma_schedule")
COMMON = ("num_train_timesteps",)
EDM_RANGE = {"sigma_min": "edm_vpred.sigma_min", "sigma_max": "edm_vpred.sigma_max"}
"""Fields of the configuration → tensors of a single file (CosXL)."""

COSXL = {"_class_name": "EDMEulerScheduler", "sigma_data": 1.0, "prediction_type": "v_prediction"}
PLAYGROUND = {"_class_name": "EDMEulerScheduler", "sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "rho": 7.0}
PLAYGROUND |= {"sigma_schedule": "karras", "prediction_type": "epsilon"}


def completed(config: Mapping[str, Any], kind: str | None, label: str) -> dict[str, Any]:
    """The configuration with diffusers' own defaults for missing fields. Raises ModelError if nothing gives a field.

    kind: the class that model_index.json names. As in diffusers it has priority over the configuration's own.
    """
    kind = str(kind or config.get("_class_name", ""))
    if kind.startswith("FlowMatch") or str(config.get("_class_name", "")).startswith("FlowMatch"):
        return {**config, "_class_name": kind or config["_class_name"]}
    needed = (*COMMON, *(EDM if kind.startswith("EDM") else () if config.get("trained_betas") is not None else BETAS))
    missing = [field for field in needed if field not in config]
    return {**(_defaults(kind, missing, label) if missing else {}), **config, "_class_name": kind}


def _defaults(kind: str, missing: list[str], label: str) -> dict[str, Any]:
    """The defaults of a scheduler's class of diffusers."""
    import diffusers

    cls = getattr(diffusers, kind, None) if kind.isidentifier() else None
    if not (inspect.isclass(cls) and issubclass(cls, diffusers.SchedulerMixin)):
        raise ModelError(f"{label}: has no {missing[0]}, and its class {kind!r} is no scheduler of diffusers, which has defaults")
    given = {name: entry.default for name, entry in inspect.signature(cls).parameters.items()}
    if absent := [field for field in missing if given.get(field, inspect.Parameter.empty) is inspect.Parameter.empty]:
        raise ModelError(f"{label}: has no {absent[0]}, and {kind} has no default for it")
    return {name: value for name, value in given.items() if value is not inspect.Parameter.empty and value is not None}


def of_single_file(config: Mapping[str, Any], file: Weights, family: str, prediction: str | None, name: str) -> dict[str, Any]:
    """A family's configuration with what the file's tensors and metadata state. Raises ModelError for an SD 2 file that does
    not state what it predicts.

    prediction: of the model's name, None if it has none.
    """
    tensors, notes = file.tensors, file.metadata
    if "edm_vpred.sigma_max" in tensors:
        return completed({**COSXL, **_edm_range(file)}, None, name)
    if "edm_mean" in tensors and "edm_std" in tensors:
        return completed(PLAYGROUND, None, name)
    said = _prediction(file)
    if said is None and family == "sd21" and prediction is None:
        raise ModelError(
            f"{name}: SD 2 files predict noise or velocity, and this one does not state which; add +epsilon (2.1-base, "
            "SD-Turbo) or +v_prediction (2.1 at 768 px) to its name"
        )
    zero = "ztsnr" in tensors or _true(notes.get("ss_zero_terminal_snr"))
    stated = {} if said is None else {"prediction_type": said}
    return {**config, **stated, **({"rescale_betas_zero_snr": True} if zero else {})}


def latent_statistics(file: Weights, channels: int, name: str) -> dict[str, Any]:
    """Fields of the autoencoder's configuration that a single file states: mean and deviation of its latents (Playground 2.5)."""
    if "edm_mean" not in file.tensors or "edm_std" not in file.tensors:
        return {}
    from pipelines.checkpoints.loader import networks

    found = {}
    for field, tensor in (("latents_mean", "edm_mean"), ("latents_std", "edm_std")):
        values = networks.read_one(file, tensor).float().flatten()
        if len(values) != channels or not values.isfinite().all() or (field == "latents_std" and not (values > 0).all()):
            raise ModelError(f"{name}: {tensor!r} is not one finite number for each of {channels} latent channels")
        found[field] = values.tolist()
    return {**found, "scaling_factor": 0.5}


def _prediction(file: Weights) -> str | None:
    """What a single file states of its prediction: a tensor v_pred, modelspec's entry, or that of kohya's trainer."""
    said = file.metadata.get("modelspec.prediction_type", "").lower()
    if "v_pred" in file.tensors or said.startswith("v") or _true(file.metadata.get("ss_v_parameterization")):
        return "v_prediction"
    if said.startswith("eps") or file.metadata.get("ss_v_parameterization", "").lower() == "false":
        return "epsilon"
    return None


def _true(value: str | None) -> bool:
    return value is not None and value.lower() == "true"


def _edm_range(file: Weights) -> dict[str, float]:
    from pipelines.checkpoints.loader import networks

    found = {}
    for field, tensor in EDM_RANGE.items():
        if tensor in file.tensors:
            if file.tensors[tensor].count != 1:
                raise ModelError(f"{file.files[0].name}: {tensor!r} is not one number")
            found[field] = float(networks.read_one(file, tensor))
    return found
