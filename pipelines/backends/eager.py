"""The plain backend: the module itself, in channels-last, in one dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pipelines.backends import Graph, Samples

THREADS = torch.get_num_threads()
"""As the machine or OMP_NUM_THREADS has it, before any backend changed it."""


class EagerBackend:
    name = "eager"

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.torch_threads = THREADS
        self.dtype = dtype

    def build(self, key: str, make: Callable[[], nn.Module], example: Sequence[Tensor], samples: Samples | None = None) -> Graph:
        module = make()
        dtype = torch.float32 if self.dtype == torch.float16 and getattr(module, "upcast", False) else self.dtype
        module.to(self.device, dtype, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            outputs = module(*(self._enter(value, dtype) for value in inputs))
            return tuple(value if value.dtype == torch.uint8 else value.float() for value in outputs)

        return run

    def _enter(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        value = value.to(self.device)
        if not value.is_floating_point():
            return value
        value = value.to(dtype)
        return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
