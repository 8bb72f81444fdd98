"""CUDA graphs: a callable of fixed shapes, recorded once and replayed without the host.

torch.compile's own ("reduce-overhead") keep one memory pool for all graphs of a thread and belong to the thread that first ran
them. Here graphs are built in one thread and run in another, and those of different streams run at the same time. So each stream
of the step has a pool of its own, in which its graphs, which never run at once, share their memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3
"""Calls before the recording: compilers, libraries' workspaces and the search for the fastest convolution must be through."""

_RECORDING = threading.Lock()
"""torch records one graph in a process at a time. A lock, no thread: who builds graphs decides on threads."""


class Capture:
    """`call` recorded for inputs of the example's shapes, dtypes and memory layouts. Called with tensors of these shapes from
    host or device; what it returns is the caller's.

    pool: torch.cuda.graph_pool_handle() of those graphs that never run at the same time. cuda: torch.cuda, or a test's stand-in.
    """

    def __init__(
        self,
        call: Callable[..., Sequence[Tensor]],
        example: Sequence[Tensor],
        device: torch.device,
        pool: Any,
        cuda: Any = torch.cuda,
    ) -> None:
        self._inputs = [value.to(device, copy=True) for value in example]
        self._graph = cuda.CUDAGraph()
        with cuda.device(device):
            aside = cuda.Stream(device)
            aside.wait_stream(cuda.current_stream(device))
            with cuda.stream(aside):
                for _ in range(WARM_UP):
                    call(*self._inputs)
            with _RECORDING:
                # thread_local: other threads go on launching, and allocating, while this one records.
                with cuda.graph(self._graph, pool=pool, stream=aside, capture_error_mode="thread_local"):
                    self._outputs = tuple(call(*self._inputs))
                cuda.synchronize(device)  # the graph may be replayed by any stream from here on

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        for fixed, value in zip(self._inputs, inputs, strict=True):
            fixed.copy_(value, non_blocking=True)
        self._graph.replay()
        return tuple(value.clone() for value in self._outputs)
