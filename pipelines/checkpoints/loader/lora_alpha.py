"""Alpha and rank of a LoRA from peft's configuration: in the metadata `lora_adapter_metadata`, where diffusers stores it, or in
adapter_config.json, which peft saves beside adapter_model.safetensors.

A layer's addition is alpha / rank · B·A, with rsLoRA alpha / √rank · B·A (arXiv 2312.03732). Adapters that plain fusing would
apply wrongly are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.checkpoints.loader.lora_names import PREFIXES
from pipelines.values.reader import parse_json
from pipelines.values.types import ModelError

PEFT_TYPES = ("LORA", "LOHA", "LOKR")
KEY = "lora_adapter_metadata"
LAYER = re.compile(r"\^?[A-Za-z0-9_.]{1,300}")
UNSUPPORTED = (
    "lora_bias", "alora_invocation_tokens", "use_qalora", "use_bdlora", "kasa_config", "layer_replication", "target_parameters",
    "modules_to_save",
)  # fmt: skip
"""Fields of peft's configuration that change more than a layer's weight, or change it otherwise."""

CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")
"""Initialisations of a LoRA that also change the base weights, so it does not fit the published ones."""


@dataclass(frozen=True, slots=True)
class PartMetadata:
    """The metadata of one part: default alpha and rank (None if missing), those of single layers by name, and
    whether it is rsLoRA and DoRA."""

    alpha: float | None = None
    rank: int | None = None
    alphas: Mapping[str, float] = field(default_factory=dict)
    ranks: Mapping[str, float] = field(default_factory=dict)
    rooted: bool = False
    dora: bool = False

    def alpha_of(self, layer: str) -> float | None:
        """The alpha of a layer, by its name in the network, with dots; None if missing."""
        return _of(self.alphas, layer, self.alpha)

    def rank_of(self, layer: str) -> float | None:
        return _of(self.ranks, layer, self.rank)

    def scale(self, alpha: float, rank: int) -> float:
        return alpha / (math.sqrt(rank) if self.rooted else rank)


def parse_metadata(metadata: Mapping[str, str], label: str) -> dict[str, PartMetadata]:
    """The metadata by part. Raises ModelError, whose message begins with `label`, if it is broken or needs more than fusing."""
    label = f"{label}: {KEY}"
    content = parse_json(metadata[KEY], label) if metadata.get(KEY) else {}
    fields: dict[str, dict[str, Any]] = {}
    for key, value in content.items():
        part, _, name = key.partition(".")
        if part not in PREFIXES or not name:
            raise ModelError(f"{label}: {key!r} belongs to no part of a Stable Diffusion model")
        fields.setdefault(part, {})[name] = value
    return {part: _stated(values, f"{label}: {part}") for part, values in fields.items()}


def parse_config(config: Mapping[str, Any], label: str) -> PartMetadata:
    """The content of an adapter_config.json. Raises ModelError for adapters that are not supported."""
    kind = str(config.get("peft_type", "LORA")).upper()
    if kind not in PEFT_TYPES:
        raise ModelError(f"{label}: is a {kind} adapter; supported are {', '.join(PEFT_TYPES)}")
    if config.get("bias", "none") != "none":
        raise ModelError(f"{label}: bias = {config['bias']!r} is not supported; supported is 'none'")
    return _stated({**config, **({} if kind == "LORA" else {"lora_alpha": config.get("alpha", 8)})}, label)


def _stated(values: Mapping[str, Any], label: str) -> PartMetadata:
    for kind in (
        "lora_bias",
        "alora_invocation_tokens",
        "use_qalora",
        "layer_replication",
        "target_parameters",
        "modules_to_save",
    ):
        if values.get(kind):
            raise ModelError(f"{label}: {kind} is not supported")
    begun = values.get("init_lora_weights")
    if isinstance(begun, str) and begun.startswith(CHANGED_BASE):
        raise ModelError(f"{label}: init_lora_weights {begun!r} also changes the base weights, which are not in the file")
    alpha, rank = (
        _number(values[name], f"{label}.{name}") if values.get(name) is not None else None for name in ("lora_alpha", "r")
    )
    alphas, ranks = (_numbers(values.get(name), f"{label}.{name}") for name in ("alpha_pattern", "rank_pattern"))
    whole = None if rank is None else int(rank)
    return PartMetadata(alpha, whole, alphas, ranks, bool(values.get("use_rslora")), bool(values.get("use_dora")))


def _numbers(value: Any, label: str) -> dict[str, float]:
    if not isinstance(value, dict | None):
        raise ModelError(f"{label}: must contain a number for each layer")
    numbers = {}
    for layer, number in (value or {}).items():
        if LAYER.fullmatch(layer) is None:  # peft accepts regular expressions; a file must not bring its own
            raise ModelError(f"{label}: {layer!r} is not the name of a layer")
        numbers[layer] = _number(number, f"{label}: {layer}")
    return numbers


def _number(value: Any, label: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ModelError(f"{label}: {value!r} is not a positive number")
    return float(value)


def _of(numbers: Mapping[str, float], layer: str, otherwise: float | None) -> float | None:
    """The first number whose name is the layer's, or its end if the name does not begin with ^; else `otherwise`."""
    for name, number in numbers.items():
        plain = name.removeprefix("^").removeprefix("text_model.")
        whole = layer.removeprefix("text_model.")
        if whole == plain or (not name.startswith("^") and whole.endswith(f".{plain}")):
            return number
    return otherwise
