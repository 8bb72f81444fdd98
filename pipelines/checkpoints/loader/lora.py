"""LoRA and its kin: W ← W + strength · α/r · Δ, layer by layer (lora_delta.py has Δ, lora_patch.py applies it to networks).

Reads the layouts of diffusers', kohya's, peft's, LyCORIS' and OneTrainer's files, which nearly all published ones have, for the
UNet and the text encoders. Each layer has its own α and r. A layer that the model lacks is an error, not a warning: otherwise a
LoRA of another family would silently change nothing. `notes` says what of a file is not used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.checkpoints.loader import identify, lora_alpha, lora_delta, lora_names
from pipelines.checkpoints.loader.files import PICKLED, Folder, Weights, read_weights
from pipelines.checkpoints.loader.lora_alpha import PartMetadata
from pipelines.checkpoints.loader.lora_names import ALPHA, LENGTHS
from pipelines.values.reader import read_json
from pipelines.values.types import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

Shares = dict[str, dict[str, str]]
"""Layer, with underscores for dots → side → name of the tensor in the file."""

PEFT_CONFIG = "adapter_config.json"


class LoraFile:
    """A LoRA on disk with a checked header. Raises ModelError.

    notes: what of the file is not used, or is assumed; one sentence each.
    """

    def __init__(self, path: Path, strength: float) -> None:
        self.name = path.name
        self.strength = strength
        if path.suffix in PICKLED:
            raise ModelError(f"{self.name}: is pickled, and reading a pickle may run code; only .safetensors files are loaded")
        self.weights: Weights = Folder(path).weights("") if path.is_dir() else read_weights([path], path.name)
        self.notes: list[str] = []
        self._parts = self._sorted()
        self._stated = lora_alpha.parse_metadata(self.weights.metadata, self.name)
        self._read_config()
        for part, stated in self._stated.items():
            if stated.dora and not all(LENGTHS in share for share in self._parts.get(part, {}).values()):
                raise ModelError(f"{self.name}: its metadata has use_dora, but layers of the {part} have no magnitude vector")

    @property
    def layers(self) -> dict[str, int]:
        """Part → number of changed layers, for each changed part."""
        return {part: len(shares) for part, shares in self._parts.items()}

    @property
    def ranks(self) -> tuple[int, ...]:
        """All ranks of its layers, ascending."""
        shapes = (self._shapes(share) for shares in self._parts.values() for share in shares.values())
        return tuple(sorted({rank for shape in shapes if (rank := lora_delta.rank_of(shape)) is not None}))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its layers, such as LoRA or LoHa."""
        shares = [share for shares in self._parts.values() for share in shares.values()]
        kinds = {"DoRA" if LENGTHS in share else lora_delta.kind_of(share) for share in shares}
        return tuple(sorted(kinds))

    @property
    def summary(self) -> str:
        """What of the file is used, and how; then what is not."""
        layers = ", ".join(f"{count} layers of {part}" for part, count in self.layers.items())
        ranks = f"; ranks {min(self.ranks)} to {max(self.ranks)}" if self.ranks else ""
        return "; ".join([f"{', '.join(self.kinds)}: {layers}{ranks}, weight {self.strength:g}", *self.notes])

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
                written = lora_names.written(min(share.values()), part)
                raise ModelError(f"{self.name}: is for another model; this {part} has no layer {written!r}")
            if target in targets:
                raise ModelError(f"{self.name}: has two shares for {target} of the {part}")
            self._check_fit(part, target, network.get_submodule(target), share)
            targets[target] = share
        return targets

    @property
    def low_rank(self) -> bool:
        """Whether every layer is a plain product of two small factors."""
        return self.kinds == ("LoRA",)

    def weighed(self, strength: float) -> LoraFile:
        """The same file with another strength."""
        other = copy(self)
        other.strength = strength
        return other

    def applied(self, part: str, layer: str, weight: Tensor, names: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Tensor:
        """A layer's weight, float32 and contiguous, with this LoRA; `weight` itself may be changed. Raises ModelError for numbers
        that are not finite."""
        factors = self._factors(part, layer, weight.device, names, tensors)
        scale = self.strength * self._scale(part, layer, names, tensors)
        weight = lora_delta.add_to(weight, factors, scale)
        if LENGTHS not in names or self.strength == 0.0:
            return weight
        lengths = tensors[names[LENGTHS]].to(weight.device)
        return lora_delta.with_lengths(weight, lengths.reshape(self._shapes(names)[LENGTHS]))

    def product(
        self, part: str, layer: str, device: Any, names: Mapping[str, str], tensors: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor] | None:
        """(A [R, in · window], strength · α/r · B [out, R]), float32, where a layer's addition is their product; None for a
        layer of another kind. Raises ModelError for numbers that are not finite."""
        if LENGTHS in names or lora_delta.kind_of(names) != "LoRA":
            return None
        down, up = lora_delta.product(self._factors(part, layer, device, names, tensors))
        return down, up * (self.strength * self._scale(part, layer, names, tensors))

    def branch(
        self, part: str, layer: str, shape: Sequence[int], names: Mapping[str, str], tensors: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """(A [R, in, ...], α/r · B [out, R]), float32, of a layer whose weight has this shape. Requires `low_rank`. Raises
        ModelError for numbers that are not finite."""
        down, up = lora_delta.product(self._factors(part, layer, None, names, tensors))
        return down.reshape(-1, *shape[1:]), up * self._scale(part, layer, names, tensors)

    def _factors(
        self, part: str, layer: str, device: Any, names: Mapping[str, str], tensors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The factors of a layer by side, float32."""
        sides = (side for side in names if side not in (ALPHA, LENGTHS))
        factors = {side: tensors[names[side]].to(device=device).float() for side in sides}
        if not all(factor.isfinite().all() for factor in factors.values()):
            raise ModelError(f"{self.name}: has numbers that are not finite in {layer} of the {part}")
        return factors

    def _scale(self, part: str, layer: str, names: Mapping[str, str], tensors: Mapping[str, Tensor]) -> float:
        """α/r of a layer; 1 for a LoKr of whole factors, unless peft's configuration has both numbers."""
        stated = self._stated.get(part, PartMetadata())
        rank = lora_delta.rank_of(self._shapes(names))
        if rank is None:
            known_rank, known_alpha = stated.rank_of(layer), stated.alpha_of(layer)
            return 1.0 if known_rank is None or known_alpha is None else known_alpha / known_rank
        return stated.scale(self._alpha(part, layer, rank, tensors.get(names.get(ALPHA, ""))), rank)

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
        """The tensors by part, layer and side. Raises ModelError for a tensor of another adapter, or a layer without a factor."""
        parts: dict[str, Shares] = {}
        strange = []
        for name in self.weights.tensors:
            tensor = lora_names.parse(name)
            if tensor is None:
                if lora_names.belongs(name):
                    raise ModelError(f"{self.name}: {name!r} is of no supported adapter; supported are LoRA, DoRA, LoHa and LoKr")
                strange.append(name)
                continue
            share = parts.setdefault(tensor.part, {}).setdefault(tensor.layer, {})
            if tensor.side in share:
                raise ModelError(f"{self.name}: {share[tensor.side]!r} and {name!r} are for the same layer")
            share[tensor.side] = name
        self._check_strangers(strange, bool(parts))
        for shares in parts.values():
            for share in shares.values():
                if absent := lora_delta.missing(share):
                    raise ModelError(f"{self.name}: {min(share.values())!r} lacks the other factor of its layer ({absent})")
        return parts

    def _check_strangers(self, names: list[str], has_layers: bool) -> None:
        """Note the tensors that belong to no part. Raises ModelError if they are a LoRA's, or the file has no others."""
        factors = [name for name in names if "lora" in name or name.endswith(ALPHA)]
        if not has_layers and not factors:
            raise ModelError(f"{self.name}: contains no LoRA; {identify.of_tensors(self.weights.tensors)}")
        if factors:
            what = " (it is a LoRA for a transformer, such as Flux, SD3 or Qwen-Image)" if _of_transformer(factors) else ""
            raise ModelError(f"{self.name}: {factors[0]!r} belongs to no part of a Stable Diffusion model{what}")
        if bundled := [name for name in names if name.startswith("bundle_emb.")]:
            words = sorted({name.split(".")[1] for name in bundled})
            self.notes.append(f"{len(words)} bundled embeddings are not used: {', '.join(words)}")
        if rest := [name for name in names if not name.startswith("bundle_emb.")]:
            self.notes.append(f"{len(rest)} tensors are not used: they are no part of a LoRA ({rest[0]})")

    def _read_config(self) -> None:
        """Alpha and rank from the configuration that peft saves beside the file; a note where such a file has none."""
        by_peft = [part for part, shares in self._parts.items() if all("base_model.model." in n for n in _names(shares))]
        if not by_peft:
            return
        beside = self.weights.files[0].parent / PEFT_CONFIG
        if beside.is_file():
            label = f"{self.name}: {PEFT_CONFIG}"
            self._stated = {part: lora_alpha.parse_config(read_json(beside, label), label) for part in by_peft} | self._stated
        elif not self._stated:
            self.notes.append(f"states no alpha, and there is no {PEFT_CONFIG} beside it; alpha = rank is used")

    def _shapes(self, share: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
        """Shapes by side. peft's magnitude vectors, [1, out, 1, 1] for a convolution, belong to rows: [out]."""
        shapes = {side: self.weights.tensors[name].shape for side, name in share.items()}
        if "lora_magnitude_vector" in share.get(LENGTHS, ""):
            shapes[LENGTHS] = (math.prod(shapes[LENGTHS]),)
        return shapes

    def _check_fit(self, part: str, layer: str, module: nn.Module, share: Mapping[str, str]) -> None:
        shapes, weight = self._shapes(share), tuple(module.get_parameter("weight").shape)
        factors = {side: shape for side, shape in shapes.items() if side not in (ALPHA, LENGTHS)}
        if not lora_delta.fits(factors, weight):
            found = " and ".join(str(list(shape)) for _, shape in sorted(factors.items(), reverse=True))
            raise ModelError(f"{self.name}: does not fit the {part}: {layer} has {list(weight)} weights, its factors {found}")
        if LENGTHS in shapes and not lora_delta.lengths_fit(shapes[LENGTHS], weight):
            raise ModelError(f"{self.name}: {share[LENGTHS]!r} has shape {list(shapes[LENGTHS])}, {layer} {list(weight)}")
        if ALPHA in share and self.weights.tensors[share[ALPHA]].count != 1:
            raise ModelError(f"{self.name}: {share[ALPHA]!r} is not one number")


def _of_transformer(names: list[str]) -> bool:
    words = ("transformer", "double_blocks", "single_blocks", "joint_blocks")
    return any(word in name for name in names for word in words)


def _names(shares: Shares) -> list[str]:
    return [name for share in shares.values() for name in share.values()]
