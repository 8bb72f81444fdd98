"""torch.compile: Inductor's Triton and a CUDA graph of our own on a GPU (capture.py), Inductor's C++ on a CPU (which needs a
compiler on the machine)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.graphs.backends import torchao_dtypes
from pipelines.graphs.backends.base import Graph, Samples
from pipelines.graphs.backends.capture import Capture
from pipelines.graphs.backends.eager import EagerBackend
from pipelines.values.types import GpuPath

GRAPHS_OF_ONE_CLASS = 64
"""Compiled forms of one module class that torch keeps: passes times sizes."""


class CompileBackend(EagerBackend):
    name = "compile"

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        path: GpuPath = GpuPath(),  # noqa: B008 - frozen
        quantised: str | None = None,
        attention_kind: str = "sdpa",
    ) -> None:
        super().__init__(device, dtype, path, attention_kind)
        self.quantised = quantised  # int8, float8 or int4
        self._pools: dict[str, Any] = {}
        limit = torch._dynamo.config.cache_size_limit
        torch._dynamo.config.cache_size_limit = max(limit, GRAPHS_OF_ONE_CLASS)
        if self.on_gpu:
            torch.backends.cudnn.benchmark = True  # shapes are fixed: search once for the fastest convolution

    def _build(
        self, key: str, make: Callable[[], nn.Module], example: Sequence[Tensor], samples: Samples | None, lanes: int
    ) -> Graph:
        module = self.module(make)
        if self.quantised is not None:
            torchao_dtypes.quantise(module, self.quantised)
        if self.path.compiled:
            module.compile(dynamic=False)  # in place: the module stays a Module for dtype and layout
        graph = self._graph(module)
        with torch.inference_mode():
            fixed = self._fixed(module, example)
            if self.on_gpu and self.path.graphs:
                return Capture(graph, fixed, self.device, self._pool(getattr(module, "lane", "denoise")))
            graph_on_own_inputs = _on_own_inputs(graph, [value.clone() for value in fixed])
            graph_on_own_inputs(*example)
        return graph_on_own_inputs

    def _fixed(self, module: nn.Module, example: Sequence[Tensor]) -> list[Tensor]:
        """The example as the module takes it, so that the recording holds no conversion that can be done on the way in."""
        return [self._enter(value, self._dtype_of(module)) for value in example]

    def _pool(self, lane: str) -> Any:
        """Memory for the graphs of one stream of the step."""
        if lane not in self._pools:
            self._pools[lane] = torch.cuda.graph_pool_handle()
        return self._pools[lane]


def _on_own_inputs(graph: Graph, inputs: Sequence[Tensor]) -> Graph:
    """The graph on inputs of its own, into which those of a call are copied. torch compiles anew for whatever it has not seen,
    and even the stride of a dimension of size 1, which has no effect, counts: a slice of one row is not the example's row.
    """

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        for own, value in zip(inputs, given, strict=True):
            own.copy_(value, non_blocking=True)
        return graph(*inputs)

    return run
