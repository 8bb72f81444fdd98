"""Fuses LoRA into weights at load: W ← W + strength · α/r · B·A (arXiv 2106.09685), layer by layer.

Reads the layouts of diffusers' and kohya's trainers, which nearly all published files have, for the UNet and the text
encoders. Each layer has its own α and r. A layer that the model lacks is an error, not a warning: otherwise a LoRA of another
family would silently change nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.checkpoints.loader import lora_alpha, lora_names
from pipelines.checkpoints.loader.files import PICKLED, Folder, Weights, read_weights
from pipelines.checkpoints.loader.lora_alpha import PartMetadata
from pipelines.checkpoints.loader.lora_names import ALPHA, DOWN, UP
from pipelines.values.types import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

Shares = dict[str, dict[str, str]]
"""Layer, with underscores for dots → side → name of the tensor in the file."""


class LoraFile:
    """A LoRA on disk with a checked header. Raises ModelError."""

    def __init__(self, path: Path, strength: float) -> None:
        self.name = path.name
        self.strength = strength
        if path.suffix in PICKLED:
            raise ModelError(f"{self.name}: is pickled, and reading a pickle may run code; only .safetensors files are loaded")
        self.weights: Weights = Folder(path).weights("") if path.is_dir() else read_weights([path], path.name)
        if not any("lora" in name for name in self.weights.tensors):
            raise ModelError(f"{self.name}: contains no LoRA: no tensor name contains lora_A, lora_down or similar")
        self._parts = self._sorted()
        self._stated = lora_alpha.parse_metadata(self.weights.metadata, self.name)

    @property
    def layers(self) -> dict[str, int]:
        """Part → number of changed layers, for each changed part."""
        return {part: len(shares) for part, shares in self._parts.items()}

    @property
    def ranks(self) -> tuple[int, ...]:
        """All ranks of its layers, ascending."""
        downs = (share[DOWN] for shares in self._parts.values() for share in shares.values())
        return tuple(sorted({self.weights.tensors[name].shape[0] for name in downs}))

    def targets(self, part: str, network: nn.Module, unet_config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        """Name of a layer in the network → side → name of the tensor, for every layer of the file in this part.

        The network may be on the meta device. Raises ModelError for a layer that it lacks, or factors that do not fit.
        """
        known = lora_names.layers(part, network)
        shares = self._parts.get(part, {})
        strangers = [layer for layer in shares if layer not in known]
        renamed = lora_names.original(strangers, unet_config) if part == "unet" else {}
        targets: dict[str, dict[str, str]] = {}
        for layer, share in shares.items():
            target = known.get(renamed.get(layer, layer))
            if target is None:
                written = share[DOWN].partition(".lora")[0].removeprefix(f"{part}.")
                raise ModelError(f"{self.name}: is for another model; this {part} has no layer {written!r}")
            if target in targets:
                raise ModelError(f"{self.name}: has two shares for {target} of the {part}")
            self._check_fit(part, target, network.get_submodule(target), share)
            targets[target] = share
        return targets

    def share(self, part: str, layer: str, names: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Tensor:
        """The addition to a layer's weight, float32 [out, in], with a convolution's window flattened. Raises ModelError."""
        down, up = (tensors[names[side]].float().flatten(1) for side in (DOWN, UP))  # [r, in], [out, r]
        alpha = self._alpha(part, layer, len(down), tensors.get(names.get(ALPHA, "")))
        scale = self._stated.get(part, PartMetadata()).scale(alpha, len(down))
        added: Tensor = (self.strength * scale) * (up @ down)
        if not added.isfinite().all():
            raise ModelError(f"{self.name}: has numbers that are not finite in {layer} of the {part}")
        return added

    def _alpha(self, part: str, layer: str, rank: int, tensor: Tensor | None) -> float:
        stated = self._stated.get(part, PartMetadata())
        stated_rank, stated_alpha = stated.rank_of(layer), stated.alpha_of(layer)
        if stated_rank is not None and stated_rank != rank:
            raise ModelError(f"{self.name}: {layer} of the {part} has rank {rank}, its metadata {stated_rank:g}")
        if tensor is None:
            return float(rank) if stated_alpha is None else stated_alpha
        alpha = float(tensor)
        if not 0 < alpha < math.inf:
            raise ModelError(f"{self.name}: alpha {alpha:g} of {layer} of the {part} is not a positive number")
        if stated_alpha is not None and not math.isclose(alpha, stated_alpha, rel_tol=0.01):
            raise ModelError(f"{self.name}: alpha of {layer} of the {part} is {alpha:g}, in its metadata {stated_alpha:g}")
        return alpha

    def _sorted(self) -> dict[str, Shares]:
        """The tensors by part, layer and side. Raises ModelError for a tensor of another adapter, or half a pair."""
        parts: dict[str, Shares] = {}
        for name in self.weights.tensors:
            tensor = lora_names.parse(name)
            if tensor is None:
                if not lora_names.belongs(name):
                    raise ModelError(f"{self.name}: {name!r} belongs to no part of a Stable Diffusion model")
                raise ModelError(
                    f"{self.name}: {name!r} is not a factor of a plain LoRA; LoHa, LoKr, DoRA and others are not supported"
                )
            share = parts.setdefault(tensor.part, {}).setdefault(tensor.layer, {})
            if tensor.side in share:
                raise ModelError(f"{self.name}: {share[tensor.side]!r} and {name!r} are for the same layer")
            share[tensor.side] = name
        for shares in parts.values():
            for share in shares.values():
                if not {DOWN, UP} <= share.keys():
                    raise ModelError(f"{self.name}: {min(share.values())!r} lacks the other factor of its layer")
        return parts

    def _check_fit(self, part: str, layer: str, module: nn.Module, share: Mapping[str, str]) -> None:
        down, up = (self.weights.tensors[share[side]].shape for side in (DOWN, UP))
        weight = tuple(module.get_parameter("weight").shape)
        made = (math.prod(up[:1]), math.prod(down[1:]))
        ranks = (down[0] if len(down) > 1 else 0, math.prod(up[1:]) if len(up) > 1 else -1)
        if ranks[0] != ranks[1] or ranks[0] < 1 or made != (weight[0], math.prod(weight[1:])):
            factors = f"{list(up)} and {list(down)}"
            raise ModelError(f"{self.name}: does not fit the {part}: {layer} has {list(weight)} weights, its factors {factors}")
        if ALPHA in share and self.weights.tensors[share[ALPHA]].count != 1:
            raise ModelError(f"{self.name}: {share[ALPHA]!r} is not one number")


def fuse(loras: Sequence[LoraFile], part: str, network: nn.Module, unet_config: Mapping[str, Any]) -> None:
    """Add the LoRAs to the weights of one part, in place: summed in float32, rounded once. Raises ModelError.

    A LoRA without layers in this part has no effect.
    """
    from pipelines.checkpoints.loader import networks

    plan: dict[str, list[tuple[LoraFile, dict[str, str], dict[str, Tensor]]]] = defaultdict(list)
    for lora in loras:
        targets = lora.targets(part, network, unet_config)
        tensors = networks.read(lora.weights) if targets else {}
        for layer, names in targets.items():
            plan[layer].append((lora, names, tensors))
    for layer, shares in plan.items():
        weight = network.get_submodule(layer).get_parameter("weight").data
        total = weight.float()
        for lora, names, tensors in shares:
            total = total + lora.share(part, layer, names, tensors).view(weight.shape)
        fused = total.to(weight.dtype)
        if not fused.isfinite().all():
            who = ", ".join(lora.name for lora, _, _ in shares)
            raise ModelError(f"{who}: the weights of {layer} of the {part} are not finite in {weight.dtype} with it")
        weight.copy_(fused)
