"""The LoRAs of one model in its networks, and how they change while these run.

Those in the weights are patched in place (lora_patch.py). The branches beside them, for compilers that make constants of the
weights, have a gain each (pipelines/networks/lora_branches.py); other files need other graphs there.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pipelines.checkpoints.loader.lora import LoraFile
from pipelines.checkpoints.loader.lora_patch import PatchedWeights, Plan, plan
from pipelines.networks import lora_branches
from pipelines.networks.lora_branches import Gains, WithGains
from pipelines.values.models import ModelInfo
from pipelines.values.types import ModelError

if TYPE_CHECKING:
    from pipelines.checkpoints.loader.model_files import ModelFiles


@dataclass(frozen=True, slots=True)
class LoraChange:
    """Other LoRAs for the networks of one model, checked. plans: for the weights of each network."""

    info: ModelInfo
    loras: tuple[LoraFile, ...]
    plans: Mapping[PatchedWeights, Plan]


class LorasInUse:
    """`planned` may be called in any thread, everything else in the one that runs the networks.

    in_place: whether the weights of the networks that run can be changed in place; set before any network is read.
    """

    def __init__(self, files: ModelFiles) -> None:
        self._files: ModelFiles = weakref.proxy(files)  # which holds this
        self._slot = Gains()
        self._patched: tuple[PatchedWeights, ...] = ()  # replaced as a whole, for readers in other threads
        self.in_place = True

    def add_to(self, part: str, network: nn.Module, torch_only: bool = False) -> None:
        """Put the LoRAs into a network as it was loaded. torch_only: it is never compiled, so it has all of them in its weights.
        Raises ModelError."""
        files = self._files
        if not torch_only and not self.in_place:
            PatchedWeights(part, network, files.unet_config, files.fused)
            if files.branched:
                self._add_branches(part, network)
            return
        patched = PatchedWeights(part, network, files.unet_config, files.loras)
        self._patched = (*(one for one in self._patched if one.network is not None), patched)

    @property
    def branches(self) -> int:
        """N of the gains."""
        return self._files.branched

    def gains(self, rows: int) -> Tensor:
        """[rows, N], float32: the weights of the branches."""
        return torch.tensor([lora.strength for lora in self._files.in_branches]).expand(rows, -1).contiguous()

    def taking_gains(self, module: nn.Module) -> nn.Module:
        """The module with gains as its last input, where there are branches."""
        return WithGains(module, self._slot) if self.branches else module

    def with_gains(self, call: Callable[..., Any], rows: int = 1) -> Callable[..., Any]:
        """A call of such a module, or of its graph, with the present gains."""
        return (lambda *inputs: call(*inputs, self.gains(rows))) if self.branches else call

    def planned(self, info: ModelInfo, offline: bool) -> LoraChange | None:
        """The change to another entry; None where it differs in more than LoRAs, or graphs have to be built for these. Raises
        ModelError."""
        if dataclasses.replace(info, loras=()) != dataclasses.replace(self._files.info, loras=()):
            return None  # a registered LoRA may allow other numbers of steps
        if self.in_place:
            loras = self._files.lora_files(info, offline)
        elif self.branches and _but_weights(info, self.branches) == _but_weights(self._files.info, self.branches):
            loras = tuple(one.weighed(use.strength) for one, use in zip(self._files.loras, info.loras, strict=True))
        else:
            return None
        plans = ((one, one.planned(loras)) for one in self._patched)
        return LoraChange(info, loras, {one: wanted for one, wanted in plans if wanted is not None})

    def apply(self, change: LoraChange) -> LoraChange:
        """All or nothing. Returns the change back. Raises ModelError."""
        files, present = self._files, self._patched
        back = LoraChange(files.info, files.loras, {one: one.plan for one in present})
        done: list[PatchedWeights] = []
        try:
            for one in present:  # a network that was read after the change was planned has no plan yet
                one.apply(change.plans[one] if one in change.plans else one.planned(change.loras) or {})
                done.append(one)
        except BaseException:
            for one in done:
                one.apply(back.plans[one])
            raise
        files.change_loras(change.info, change.loras)
        return back

    def _add_branches(self, part: str, network: nn.Module) -> None:
        adapters = self._files.in_branches
        for layer, shares in plan(adapters, part, network, self._files.unet_config).items():
            module: Any = network.get_submodule(layer)
            shape = tuple(module.weight.shape)
            factors = [share.lora.branch(part, layer, shape, share.names, share.tensors) for share in shares]
            try:
                lora_branches.add(module, factors, [adapters.index(share.lora) for share in shares], self._slot)
            except ValueError as error:
                raise ModelError(f"{shares[0].lora.name}: {layer} of the {part}: {error}") from error


def _but_weights(info: ModelInfo, branched: int) -> list[object]:
    """An entry's LoRAs, the last `branched` without their weights."""
    count = len(info.loras) - branched
    return [*info.loras[:count], *(lora.location for lora in info.loras[count:])]
