"""What every backend has in common: its interface, and the picture."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import Pixels
from pipelines.graphs.backends.base import Backend
from pipelines.graphs.backends.compiled import CompileBackend
from pipelines.graphs.backends.eager import EagerBackend
from pipelines.graphs.backends.openvino import OpenVinoBackend
from tests.pipelines.graphs.pictures import picture

CPU = torch.device("cpu")
BACKENDS = [
    lambda: EagerBackend(CPU, torch.float32),
    lambda: CompileBackend(CPU, torch.float32),
    lambda: OpenVinoBackend("float32", None),
]


@pytest.mark.parametrize("make", BACKENDS)
def test_a_backend_has_what_the_engine_uses_of_it(make: object) -> None:
    backend: Backend = make()  # type: ignore[operator]
    assert backend.device == CPU and backend.torch_threads >= 1 and 1 in backend.layout.buckets
    for name in (name for name, value in vars(Backend).items() if inspect.isfunction(value) and not name.startswith("_")):
        wanted, given = inspect.signature(getattr(Backend, name)), inspect.signature(getattr(type(backend), name))
        assert list(given.parameters) == list(wanted.parameters), name


@pytest.mark.parametrize(
    "backend, dtype, tolerance", [("openvino", "float32", 1.0), ("eager", "bfloat16", 6.0), ("openvino", "bfloat16", 6.0)]
)
def test_every_backend_draws_the_reference_picture(
    one_chunk_model: Path, graph_cache: Path, reference: Pixels, backend: str, dtype: str, tolerance: float
) -> None:
    other = picture(one_chunk_model, backend, dtype, graph_cache)
    assert np.abs(other.astype(float) - reference).mean() < tolerance  # grey levels of 255
