"""LoRAs in the weights of a network: fused at load, and changed later in place.

W = W₀ + Σ weight · α/r · Δ is always computed from the file's weights W₀, in float32, and rounded once to the network's dtype. So
a change adds no rounding error to an earlier one, equals fusing from scratch, and without LoRAs the weights are W₀ bit by bit. A
weight keeps its storage, so graphs that were recorded with it (CUDA graphs, torch.compile) stay valid.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.checkpoints.loader import networks
from pipelines.checkpoints.loader.lora import LoraFile
from pipelines.values.types import ModelError


@dataclass(frozen=True, slots=True)
class Share:
    """What one LoRA does to one layer. names: side → name of the tensor in `tensors`."""

    lora: LoraFile
    names: Mapping[str, str]
    tensors: Mapping[str, Tensor]


Plan = Mapping[str, Sequence[Share]]
"""Layer → the shares of the LoRAs in it, in their order."""


def plan(loras: Sequence[LoraFile], part: str, network: nn.Module, unet_config: Mapping[str, Any]) -> Plan:
    """What the LoRAs do to a part, from its shapes; weights are read when they are used. Raises ModelError for a layer that the
    network lacks, and for factors that do not fit."""
    shares: dict[str, list[Share]] = {}
    for lora in loras:
        targets = lora.targets(part, network, unet_config)
        tensors = networks.read(lora.weights) if targets else {}
        for layer, names in targets.items():
            shares.setdefault(layer, []).append(Share(lora, names, tensors))
    return shares


def total(part: str, layer: str, baseline: Tensor, shares: Sequence[Share], dtype: torch.dtype) -> Tensor:
    """The weight of a layer with its LoRAs, float32, on the baseline's device. Raises ModelError if it is not finite in
    `dtype`."""
    weight = baseline.to(torch.float32, copy=True)
    for share in shares:
        weight = share.lora.applied(part, layer, weight, share.names, share.tensors)
    low, high = torch.aminmax(weight)
    if not bool(torch.stack([low, high]).to(dtype).isfinite().all()):
        who = ", ".join(share.lora.name for share in shares)
        raise ModelError(f"{who}: the weights of {layer} of the {part} are not finite in {dtype} with it")
    return weight


class PatchedWeights:
    """The weights of one network, and the LoRAs in them. The network is not kept alive. One thread at a time calls `apply`."""

    def __init__(self, part: str, network: nn.Module, unet_config: Mapping[str, Any], loras: Sequence[LoraFile]) -> None:
        """Fuses `loras`. part: unet or a text encoder; network: as it was loaded. The changed weights become float32, whatever
        the file's dtype: half precision would round away up to a sixth of a small addition. A backend rounds them once, to its
        own dtype. A LoRA without layers in this part has no effect. Raises ModelError."""
        self.part, self.unet_config = part, unet_config
        self.plan = plan(loras, part, network, unet_config)
        self._network = weakref.ref(network)
        # The file's own tensors, which are mapped: they take no memory until they are read.
        self._baseline = {name: layer.weight.data for name, layer in _layers(network)}
        for layer, shares in self.plan.items():
            weight = network.get_submodule(layer).get_parameter("weight")
            weight.data = total(part, layer, weight.data, shares, weight.dtype)

    @property
    def network(self) -> nn.Module | None:
        """None once nobody uses it any more."""
        return self._network()

    def planned(self, loras: Sequence[LoraFile]) -> Plan | None:
        """The plan of these LoRAs, for `apply`; None without a network. Any thread. Raises ModelError."""
        network = self.network
        return None if network is None else plan(loras, self.part, network, self.unet_config)

    def apply(self, wanted: Plan) -> None:
        """Replace the LoRAs of the weights, in place. If it raises, the weights are as before. Raises ModelError."""
        network, present = self.network, self.plan
        if network is None:
            return
        done: list[str] = []
        try:
            for layer in {**present, **wanted}:
                done.append(layer)
                self._set(network, layer, wanted.get(layer, ()))
        except BaseException:
            for layer in done:
                self._set(network, layer, present.get(layer, ()))
            raise
        self.plan = wanted

    @torch.no_grad()
    def _set(self, network: nn.Module, layer: str, shares: Sequence[Share]) -> None:
        weight = network.get_submodule(layer).get_parameter("weight").data
        baseline = self._kept(layer, weight)
        weight.copy_(total(self.part, layer, baseline, shares, weight.dtype) if shares else baseline)

    def _kept(self, layer: str, weight: Tensor) -> Tensor:
        """The file's weight on the device of `weight`, in memory of its own."""
        baseline = self._baseline[layer]
        if baseline.device != weight.device:
            baseline = baseline.to(weight.device)
        elif baseline.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr():
            baseline = baseline.clone()
        self._baseline[layer] = baseline
        return baseline


def _layers(network: nn.Module) -> list[tuple[str, Any]]:
    return [(name, layer) for name, layer in network.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
