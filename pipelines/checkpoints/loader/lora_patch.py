"""LoRAs in the weights of a network: fused at load, and changed later in place.

W = W₀ + Σ weight · α/r · Δ is always computed from the file's weights W₀, in float32, and rounded once to the network's dtype. So
a change adds no rounding error to an earlier one, equals fusing from scratch, and without LoRAs the weights are W₀ bit by bit. A
weight keeps its storage, so graphs that were recorded with it (CUDA graphs, torch.compile) stay valid.

Low-rank additions, which nearly all files have, are one product for each layer, computed block by block of rows: the copy of W₀
is in the processor's cache when the product is added to it, and a change allocates no second weight. On a CPU one thread does it.
The work is bound by memory, and with other work on the machine two threads wait for each other at every block (192 layers of
SD 2.1, 273 million weights in float32, two cores at a load of 12 to 30, medians of four changes: 18.8 s with two threads,
2.5 with one, and 0.30 with one in blocks).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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


BLOCK = 1 << 19
"""Numbers of a weight that are computed at a time on a CPU, 2 MiB in float32."""

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


def fuse(part: str, layer: str, baseline: Tensor, shares: Sequence[Share], into: Tensor, dtype: torch.dtype) -> None:
    """Write the weight of a layer with its LoRAs, in float32, into `into`, on the device of the baseline. Raises ModelError if
    it is not finite in `dtype`; then `into` is changed."""
    products = [share.lora.product(part, layer, baseline.device, share.names, share.tensors) for share in shares]
    low_rank = [product for product in products if product is not None]
    if len(low_rank) < len(shares):
        weight = _summed(part, layer, baseline, shares)
        extremes = [*torch.aminmax(weight)]
        into.copy_(weight)
    else:
        extremes = _add_product(baseline, torch.cat([a for a, _ in low_rank]), torch.cat([b for _, b in low_rank], 1), into)
    if not bool(torch.stack(extremes).to(dtype).isfinite().all()):
        who = ", ".join(share.lora.name for share in shares)
        raise ModelError(f"{who}: the weights of {layer} of the {part} are not finite in {dtype} with it")


def _summed(part: str, layer: str, baseline: Tensor, shares: Sequence[Share]) -> Tensor:
    """The weight with LoRAs of any kind, float32."""
    weight = baseline.to(torch.float32, copy=True)
    for share in shares:
        weight = share.lora.applied(part, layer, weight, share.names, share.tensors)
    return weight


def _add_product(baseline: Tensor, down: Tensor, up: Tensor, into: Tensor) -> list[Tensor]:
    """into [out, ...] = baseline + up [out, R] · down [R, ...], in blocks of rows. Returns extremes of all blocks."""
    out, width = baseline.shape[0], baseline[0].numel()
    rows = max(1, BLOCK // width) if baseline.device.type == "cpu" else out
    direct = into.dtype == torch.float32 and into.is_contiguous()
    scratch = None if direct else torch.empty(min(rows, out), width, device=baseline.device)
    extremes: list[Tensor] = []
    for start in range(0, out, rows):
        place = into[start : start + rows]
        block = place.view(len(place), width) if scratch is None else scratch[: len(place)]
        block.view(place.shape).copy_(baseline[start : start + rows])
        extremes += torch.aminmax(block.addmm_(up[start : start + rows], down))
        if scratch is not None:
            place.copy_(block.view(place.shape))
    return extremes


@contextmanager
def one_thread() -> Iterator[None]:
    """torch's operations of the calling thread run in it alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
        with one_thread():  # as `apply`: another number of threads may round otherwise
            for layer, shares in self.plan.items():
                weight = network.get_submodule(layer).get_parameter("weight")
                fused = torch.empty(weight.shape, device=weight.device)
                fuse(part, layer, weight.data, shares, fused, weight.dtype)
                weight.data = fused

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
        with one_thread():
            self._replace(network, present, wanted)
        self.plan = wanted

    def _replace(self, network: nn.Module, present: Plan, wanted: Plan) -> None:
        done: list[str] = []
        try:
            for layer in {**present, **wanted}:
                done.append(layer)
                self._set(network, layer, wanted.get(layer, ()))
        except BaseException:
            for layer in done:
                self._set(network, layer, present.get(layer, ()))
            raise

    @torch.inference_mode()  # networks that were read inside one have inference tensors, which change only in one
    def _set(self, network: nn.Module, layer: str, shares: Sequence[Share]) -> None:
        weight = network.get_submodule(layer).get_parameter("weight").data
        baseline = self._kept(layer, weight)
        if shares:
            fuse(self.part, layer, baseline, shares, weight, weight.dtype)
        else:
            weight.copy_(baseline)

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
