"""The plain backend: the module itself, in channels-last, in one dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pipelines.graphs.backends.base import Graph, Samples
from pipelines.graphs.backends.building import Builder
from pipelines.graphs.layout import ON_CPU, ON_GPU
from pipelines.networks import attention
from pipelines.values.types import GpuPath

THREADS = torch.get_num_threads()
"""As the machine or OMP_NUM_THREADS has it, before any backend changed it."""


class EagerBackend(Builder):
    name = "eager"

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        path: GpuPath = GpuPath(),  # noqa: B008 - frozen
        attention_kind: str = "sdpa",
    ) -> None:
        self.device = device
        self.torch_threads = THREADS
        self.dtype = dtype
        self.path = path
        self.attention_kind = attention_kind
        self.on_gpu = device.type == "cuda"
        self.layout = ON_GPU if self.on_gpu else ON_CPU
        self._memory = torch.channels_last if path.channels_last or not self.on_gpu else torch.contiguous_format

    def _build(
        self, key: str, make: Callable[[], nn.Module], example: Sequence[Tensor], samples: Samples | None, lanes: int
    ) -> Graph:
        return self._graph(self.module(make))

    def module(self, make: Callable[[], nn.Module]) -> nn.Module:
        """The module on the device, in its dtype, as the parts of the path in use have it."""
        module = make()
        module.to(self.device, self._dtype_of(module), memory_format=self._memory).eval()  # type: ignore[call-overload]
        if self.on_gpu:
            attention.choose(module, self.attention_kind)
            for part in module.modules():
                if hasattr(part, "kernels"):
                    setattr(part, "kernels", self.path.kernels)  # noqa: B010 - modules are typed to hold tensors
        return module

    def _dtype_of(self, module: nn.Module) -> torch.dtype:
        return torch.float32 if self.dtype == torch.float16 and getattr(module, "upcast", False) else self.dtype

    def _graph(self, module: nn.Module) -> Graph:
        dtype = self._dtype_of(module)

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            outputs = module(*(self._enter(value, dtype) for value in inputs))
            return tuple(left(place, value) for place, value in enumerate(outputs))

        return run

    def enter(self, value: Tensor) -> Tensor:
        """An input on the device, in the backend's dtype and layout."""
        return self._enter(value, self.dtype)

    def _enter(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        value = value.to(self.device, non_blocking=self.on_gpu)  # staged from pageable memory: no wait
        if not value.is_floating_point():
            return value
        value = value.to(dtype)
        return value.contiguous(memory_format=self._memory) if value.ndim == 4 else value


def left(place: int, value: Tensor) -> Tensor:
    """An output as the engine takes it. Hidden states, behind the first, stay as they are: only another graph will take them."""
    return value if value.dtype == torch.uint8 or place else value.float()
