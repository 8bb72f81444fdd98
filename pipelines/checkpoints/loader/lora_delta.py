"""What an adapter adds to a layer's weight, from the factors of its kind: LoRA and DoRA, LoHa, LoKr.

LoRA (arXiv 2106.09685): B·A, with LyCORIS' core tensor M between them for a convolution. LoHa (FedPara, arXiv 2108.06098):
(A₁·B₁) ∘ (A₂·B₂). LoKr (arXiv 2309.14859): A ⊗ B, where each factor may itself be a product. DoRA (arXiv 2402.09353) is a LoRA
that also gives every row of the sum a length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipelines.checkpoints.loader.lora_names import DOWN, MID, UP

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

KINDS: dict[str, tuple[str, ...]] = {
    "LoRA": (DOWN, UP),
    "LoHa": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
    "LoKr": ("lokr_w1", "lokr_w2"),
}
"""Kind of adapter → the factors that each layer must have. A factor of LoKr may be given as _a and _b."""


def kind_of(sides: Mapping[str, object]) -> str:
    """The kind of adapter that a layer's factors are of."""
    return next((kind for kind, words in (("LoHa", "hada"), ("LoKr", "lokr")) if any(words in side for side in sides)), "LoRA")


def missing(sides: Mapping[str, object]) -> str | None:
    """The first factor that a layer lacks; None for a complete one."""
    for side in KINDS[kind_of(sides)]:
        halves = {f"{side}_a", f"{side}_b"}
        if side not in sides and not halves <= sides.keys():
            return min(halves - sides.keys()) if halves & sides.keys() else side
    return None


def rank_of(shapes: Shapes) -> int | None:
    """The rank of a layer's factors; None for a LoKr of two whole factors, which has none."""
    side = next((side for side in (DOWN, "hada_w1_b", "lokr_w2_b", "lokr_w1_b") if side in shapes), None)
    return None if side is None else shapes[side][0] if shapes[side] else 0


def fits(shapes: Shapes, weight: Shape) -> bool:
    """Whether factors of these shapes make an addition to a weight [out, in, ...]."""
    out, rest = weight[0], math.prod(weight[1:])
    match kind_of(shapes):
        case "LoRA" if MID in shapes:
            return _fits_core(shapes[MID], shapes[UP], shapes[DOWN], weight)
        case "LoRA":
            return _fits_product(shapes[UP], shapes[DOWN], out, rest)
        case "LoHa":
            return all(_fits_hadamard(shapes, number, weight) for number in "12")
    first, second = _factor(shapes, "lokr_w1"), _factor(shapes, "lokr_w2")
    return first is not None and second is not None and (first[0] * second[0], first[1] * second[1]) == (out, rest)


def product(values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(A [R, in · window], B [out, R]) of a LoRA's factors; a core tensor is multiplied into A."""
    import torch

    down, up = values[DOWN].flatten(1), values[UP].flatten(1)
    return (torch.einsum("rskl,si->rikl", values[MID], down).flatten(1), up) if MID in values else (down, up)


def add_to(weight: Tensor, values: Mapping[str, Tensor], scale: float) -> Tensor:
    """The weight, float32 and contiguous, plus scale times the addition of these factors; in place."""
    if kind_of(values) != "LoRA":
        return weight.add_(_addition(values, tuple(weight.shape)), alpha=scale)
    down, up = product(values)
    weight.flatten(1).addmm_(up, down, alpha=scale)  # one pass: the product is never written by itself
    return weight


def _addition(values: Mapping[str, Tensor], weight: Shape) -> Tensor:
    """The unscaled addition of a LoHa or a LoKr, of the weight's shape."""
    import torch

    if kind_of(values) == "LoHa":
        return (_hadamard(values, "1", weight) * _hadamard(values, "2", weight)).reshape(weight)
    first, second = _product(values, "lokr_w1"), _product(values, "lokr_w2")
    if second.ndim == 4 and first.ndim == 2:
        first = first[:, :, None, None]
    return torch.kron(first.contiguous(), second.contiguous()).reshape(weight)


def with_lengths(weight: Tensor, lengths: Tensor) -> Tensor:
    """DoRA: the weight [out, in, ...] with these lengths of its rows ([out], or [out, 1, ...]) or columns ([1, in, ...])."""
    import torch

    by_column = lengths.ndim > 1 and lengths.shape[0] == 1 and lengths.shape[1] == weight.shape[1] and weight.shape[0] != 1
    dims = [dim for dim in range(weight.ndim) if dim != (1 if by_column else 0)]
    shape = [-1 if dim == (1 if by_column else 0) else 1 for dim in range(weight.ndim)]
    return weight * (lengths.float().reshape(shape) / torch.linalg.vector_norm(weight, dim=dims, keepdim=True))


def lengths_fit(shape: Shape, weight: Shape) -> bool:
    """Whether DoRA's lengths of this shape belong to a weight [out, in, ...]."""
    return math.prod(shape) == weight[0] or (len(shape) > 1 and shape[0] == 1 and math.prod(shape) == shape[1] == weight[1])


def _fits_product(left: Shape, right: Shape, out: int, rest: int) -> bool:
    """Whether [out, rank] times [rank, rest] fit; windows are flattened."""
    if len(left) < 2 or len(right) < 2:
        return False
    return right[0] >= 1 and math.prod(left[1:]) == right[0] and (left[0], math.prod(right[1:])) == (out, rest)


def _fits_core(core: Shape, up: Shape, down: Shape, weight: Shape) -> bool:
    if len(core) != 4 or len(weight) != 4 or len(up) < 2 or len(down) < 2 or not math.prod(core):
        return False
    return (up[0], math.prod(up[1:]), down[0], math.prod(down[1:])) == (weight[0], core[0], core[1], weight[1]) and (
        core[2:] == weight[2:]
    )


def _fits_hadamard(shapes: Shapes, number: str, weight: Shape) -> bool:
    a, b, core = shapes[f"hada_w{number}_a"], shapes[f"hada_w{number}_b"], shapes.get(f"hada_t{number}")
    if core is None:
        return _fits_product(a, b, weight[0], math.prod(weight[1:]))
    return _fits_core(core, a[::-1], b, weight)


def _hadamard(values: Mapping[str, Tensor], number: str, weight: Shape) -> Tensor:
    import torch

    a, b, core = values[f"hada_w{number}_a"], values[f"hada_w{number}_b"], values.get(f"hada_t{number}")
    return (a @ b).reshape(weight) if core is None else torch.einsum("rskl,ro,si->oikl", core, a, b)


def _factor(shapes: Shapes, name: str) -> tuple[int, int] | None:
    """The shape of a factor of LoKr, its window flattened; None if its own factors do not fit."""
    if name in shapes:
        whole = shapes[name]
        return (whole[0], math.prod(whole[1:])) if len(whole) > 1 else None
    a, b, core = shapes[f"{name}_a"], shapes[f"{name}_b"], shapes.get(name.replace("_w", "_t"))
    if core is not None:
        fit = len(core) == 4 and len(a) == len(b) == 2 and (a[0], b[0]) == core[:2]
        return (a[1], b[1] * math.prod(core[2:])) if fit else None
    return (a[0], math.prod(b[1:])) if len(a) == 2 and len(b) > 1 and a[1] == b[0] else None


def _product(values: Mapping[str, Tensor], name: str) -> Tensor:
    import torch

    if name in values:
        return values[name]
    a, b, core = values[f"{name}_a"], values[f"{name}_b"], values.get(name.replace("_w", "_t"))
    return a @ b.flatten(1) if core is None else torch.einsum("rskl,ro,si->oikl", core, a, b)
