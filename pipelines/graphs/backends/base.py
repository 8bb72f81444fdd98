"""The interface of a backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from pipelines.graphs.layout import Layout

Graph = Callable[..., tuple[Tensor, ...]]
"""Called with tensors of exactly the example's shapes; returns a tuple of float32 (or uint8) tensors that the caller owns. Hidden
states, which only another graph will take, may be in the backend's own dtype."""

Samples = Callable[[], Sequence[tuple[Tensor, ...]]]
"""Makes the inputs that a graph is calibrated with."""


class Backend(Protocol):
    """Builds graphs. `build` may take seconds; what it returns is safe to call from one thread at a time."""

    name: str
    device: torch.device
    """Where a graph's outputs are; inputs may come from the host as well."""
    layout: Layout
    """The sizes that graphs are built for."""
    torch_threads: int
    """Threads for torch's own operations around the graphs. Where the graphs run in another library's pool it is 1: torch's
    threads keep spinning for a while after each operation, and took 5 of 26 ms from OpenVINO on two cores."""

    def build(
        self,
        key: str,
        make: Callable[[], nn.Module],
        example: Sequence[Tensor],
        samples: Samples | None = None,
        lanes: int = 1,
    ) -> Graph:
        """key names the graph uniquely (weights, part, shape, dtype); make gives the module if it is needed at all. samples: for
        a graph in int8 of openvino, which alone takes them. lanes: the graph takes so many times the example's rows and computes
        them beside each other; the file on disk is that of one lane."""
        ...

    def lanes(self, rows: int, cells: int, weights: int) -> int:
        """Into how many lanes a call of so many rows is best cut. cells: positions of a latent; weights: of the whole model."""
        ...

    def encoder(self, key: str, make: Callable[[], nn.Module], example: Sequence[Tensor]) -> Graph:
        """As `build`, for a text encoder: in float32 on the CPU, since half precision is slow or missing there and it runs once
        per prompt."""
        ...

    def kept(self, key: str, make: Callable[[], bytes]) -> bytes:
        """The bytes of that key: from disk where the backend keeps graphs, else made."""
        ...

    def portable(self, key: str, calibrated: bool) -> bool:
        """Whether that graph (calibrated: there are samples for it) is not on disk yet, but would be found there."""
        ...
