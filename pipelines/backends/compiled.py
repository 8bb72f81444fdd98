"""torch.compile: CUDA graphs on a GPU ("reduce-overhead"), Inductor's C++ on a CPU (needs a compiler on the machine)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pipelines.backends import Graph, Samples
from pipelines.backends.eager import EagerBackend


class CompileBackend(EagerBackend):
    name = "compile"

    def build(self, key: str, make: Callable[[], nn.Module], example: Sequence[Tensor], samples: Samples | None = None) -> Graph:
        mode = "reduce-overhead" if self.device.type == "cuda" else "default"
        torch._dynamo.config.cache_size_limit = max(torch._dynamo.config.cache_size_limit, 64)

        def compiled() -> nn.Module:
            module = make()
            module.compile(mode=mode, dynamic=False)  # in place: the module stays a Module for dtype and layout
            return module

        plain = super().build(key, compiled, example)

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            # A CUDA graph writes its outputs into memory of its own that the next call reuses: hand out copies.
            return tuple(value.clone() for value in plain(*inputs))

        graph = run if self.device.type == "cuda" else plain
        with torch.inference_mode():
            graph(*example)
        return graph
