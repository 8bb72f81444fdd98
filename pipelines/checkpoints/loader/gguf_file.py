"""UNets in GGUF files: shapes from the header by the library gguf; numbers by diffusers' own arithmetic, when they are needed.

diffusers computes quantised numbers in float16, as their scales are. So they are kept in float16.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.values.types import ModelError

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".gguf"
SHAPE = "comfy.gguf.orig_shape."
"""Of fields with a tensor's own shape, where it was quantised in another."""

READING = (OSError, ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError, MemoryError, NotImplementedError)


WHOLE = ("F32", "F64", "BF16")
"""Kinds of numbers that become float32; all others become float16."""

PLAIN = ("F32", "F16")


def header(path: Path, label: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype, in safetensors' notation, and shape of a file's tensors by their names. Raises ModelError for a broken file, or a
    kind of quantisation that diffusers does not read."""
    from diffusers.quantizers.gguf.utils import SUPPORTED_GGUF_QUANT_TYPES as SUPPORTED

    reader = _opened(path, label)
    for tensor in reader.tensors:
        kind = tensor.tensor_type
        if kind not in SUPPORTED and kind.name not in PLAIN:
            known = ", ".join(sorted(other.name for other in SUPPORTED))
            raise ModelError(f"{label}: {tensor.name} is quantised as {kind.name}; supported are {known}")
    return {tensor.name: (_dtype(tensor), _shape(reader, tensor, label)) for tensor in reader.tensors}


def tensors(path: Path, label: str) -> dict[str, Tensor]:
    """All tensors, in float32 or float16. Raises ModelError for a broken file."""
    import torch
    from diffusers.quantizers.gguf.utils import GGUFParameter, dequantize_gguf_tensor

    reader, found = _opened(path, label), {}
    for tensor in reader.tensors:
        stored = torch.from_numpy(tensor.data.copy())
        if tensor.tensor_type.name not in PLAIN:
            stored = dequantize_gguf_tensor(GGUFParameter(stored, quant_type=tensor.tensor_type))
        dtype = torch.float32 if _dtype(tensor) == "F32" else torch.float16
        found[tensor.name] = stored.to(dtype).reshape(_shape(reader, tensor, label))
    return found


def _dtype(tensor: Any) -> str:
    return "F32" if tensor.tensor_type.name in WHOLE else "F16"


def _opened(path: Path, label: str) -> Any:
    from gguf import GGUFReader

    base: Any = GGUFReader

    class Checked(base):
        """The library itself takes what lies beyond the end of a file for empty."""

        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            values = super()._get(offset, dtype, count, override_order)
            if len(values) != int(count):
                raise IndexError("it ends too early")
            return values

    try:
        return Checked(path)
    except READING as error:
        raise ModelError(f"{label}: is not a readable GGUF file: {str(error) or type(error).__name__}") from error


def _shape(reader: Any, tensor: Any, label: str) -> tuple[int, ...]:
    shape = tuple(int(side) for side in reversed(tensor.shape.tolist()))
    field = reader.get_field(f"{SHAPE}{tensor.name}")
    if field is None:
        return shape
    own = tuple(int(field.parts[index][0]) for index in field.data)
    if math.prod(own) != math.prod(shape):
        raise ModelError(f"{label}: {tensor.name} has shape {list(shape)}, and states {list(own)}")
    return own
