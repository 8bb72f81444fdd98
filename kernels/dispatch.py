"""When a Triton kernel may run: on CUDA, with Triton there. Elsewhere every operation of this folder is its plain reference."""

from __future__ import annotations

from importlib.util import find_spec

from torch import Tensor

HAS_TRITON = find_spec("triton") is not None
"""As beside every CUDA build of torch for Linux. A constant, so that torch.compile sees no call."""


def takes(*tensors: Tensor | None) -> bool:
    """Whether a kernel may work on these tensors."""
    return HAS_TRITON and all(tensor is None or tensor.is_cuda for tensor in tensors)
