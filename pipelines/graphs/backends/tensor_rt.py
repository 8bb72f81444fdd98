"""TensorRT on an NVIDIA GPU: graphs as ONNX files, built to engines, which are kept on disk between starts (`store`).

Two packages of NVIDIA have this Python interface. TensorRT-RTX builds in seconds, for GeForce and RTX GPUs; the full TensorRT is
also for data-centre GPUs. Engines compute in the dtypes of the file ("strongly typed"), so as the eager backend does. A name on
disk holds the fingerprint of the weights, the size, the GPU and the versions. This has not run on a GPU yet (docs/gpu.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.graphs.backends import onnx_file
from pipelines.graphs.backends.base import Graph, Samples
from pipelines.graphs.backends.eager import EagerBackend, left
from pipelines.graphs.backends.store import GraphStore
from pipelines.values.types import GRAPHS_ON_DISK, SpecError

RTX, FULL = "tensorrt_rtx", "tensorrt"
"""Modules of the packages tensorrt-rtx and tensorrt."""

OF_RTX = frozenset({(7, 5), (8, 6), (8, 9), (12, 0), (12, 1)})
"""Compute capabilities that TensorRT-RTX supports."""


def obstacle(device: str) -> str | None:
    """Why a device of this machine does not take the backend, for people; None if it does."""
    if not device.startswith("cuda") or not torch.cuda.is_available():
        return "tensorrt needs an NVIDIA GPU; a CPU takes openvino, compile or eager"
    of_rtx = torch.cuda.get_device_capability(device) in OF_RTX
    absent = [*onnx_file.missing(), *([] if _library(device) else ["tensorrt-rtx" if of_rtx else "tensorrt"])]
    if not absent:
        return None
    command = "pip install -r requirements-tensorrt.txt" if of_rtx else f"pip install {' '.join(absent)}"
    return f"tensorrt needs {' and '.join(absent)}, not installed here: {command}; compile and eager need neither"


def _library(device: str) -> str | None:
    """The installed module that supports a CUDA device."""
    fitting = (RTX, FULL) if torch.cuda.get_device_capability(device) in OF_RTX else (FULL,)
    return next((name for name in fitting if find_spec(name) is not None), None)


class TensorRtBackend(EagerBackend):
    name = "tensorrt"

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        cache_dir: Path | None,
        disk: int = GRAPHS_ON_DISK,
        library: Any = None,
    ) -> None:
        """disk: bytes that engines below cache_dir may take. library: the module of TensorRT, by default the installed one that
        supports the device."""
        super().__init__(device, dtype)
        self._memory = torch.contiguous_format  # what engines take
        self._trt = import_module(_library(str(device)) or RTX) if library is None else library
        self._log = self._trt.Logger(self._trt.Logger.WARNING)
        self.store = None if cache_dir is None else GraphStore(cache_dir / "tensorrt", disk)

    def _build(
        self, key: str, make: Callable[[], nn.Module], example: Sequence[Tensor], samples: Samples | None, lanes: int
    ) -> Graph:
        name = self._name(key)
        with self._on_device():
            engine, size = self._found(name) or self._kept(name, make, example)
            graph = self._run(engine)
        graph.weights = size // self.dtype.itemsize  # type: ignore[attr-defined]
        graph.lease = None if self.store is None else self.store.lease(name)  # type: ignore[attr-defined]
        return graph

    def _name(self, key: str) -> str:
        gpu = torch.cuda.get_device_properties(self.device) if self.on_gpu else None
        about = f"{self._trt.__name__} {self._trt.__version__} {torch.__version__} {gpu and (gpu.name, gpu.major, gpu.minor)}"
        return hashlib.sha256(f"{about} {self.dtype} {key}".encode()).hexdigest()[:24] + ".engine"

    def _on_device(self) -> AbstractContextManager[Any]:
        return torch.cuda.device(self.device) if self.on_gpu else contextlib.nullcontext()

    def _found(self, name: str) -> tuple[Any, int] | None:
        """The engine and its bytes, from disk; None if there is none that TensorRT takes."""
        content = None if self.store is None else self.store.read(name)
        if self.store is None or content is None:
            return None
        engine = self._loaded(content)
        if engine is None:
            self.store.discard(name, "is not taken")
        return None if engine is None else (engine, len(content))

    def _kept(self, name: str, make: Callable[[], nn.Module], example: Sequence[Tensor]) -> tuple[Any, int]:
        """As `_found`, of an engine that is built, and written to disk where there is a store."""
        module = make()
        module = module.cpu().to(self._dtype_of(module)).eval()  # the GPU need not hold these weights beside the engine's
        taken = [_taken(value, self._dtype_of(module)) for value in example]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "graph.onnx"
            onnx_file.write(module, taken, path)
            content = self._engine(path)
        if self.store is not None:
            self.store.write(name, content)
        engine = self._loaded(content)
        if engine is None:
            raise SpecError(
                "backend", "tensorrt does not take the engine that it has just built; the server's log has its reason"
            )
        return engine, len(content)

    def _engine(self, path: Path) -> bytes:
        trt = self._trt
        builder = trt.Builder(self._log)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, self._log)
        if not parser.parse_from_file(str(path)):
            found = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
            raise SpecError("backend", f"tensorrt cannot read a graph of this model ({found[:300]}); compile and eager can")
        content = builder.build_serialized_network(network, builder.create_builder_config())
        if content is None:
            raise SpecError("backend", "tensorrt cannot build a graph of this model (the server's log has its reason)")
        return bytes(content)

    def _loaded(self, content: bytes) -> Any:
        return self._trt.Runtime(self._log).deserialize_cuda_engine(content)

    def _run(self, engine: Any) -> Graph:
        """The engine as a graph. What it returns is the caller's."""
        trt, context = self._trt, engine.create_execution_context()
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        dtypes = {name: _torch_dtype(trt, engine.get_tensor_dtype(name)) for name in names}
        takes = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        gives = sorted(set(names).difference(takes), key=_place)
        shapes = [tuple(engine.get_tensor_shape(name)) for name in gives]

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            held = [inputs[_place(name)].to(self.device, dtypes[name], non_blocking=self.on_gpu).contiguous() for name in takes]
            outputs = [
                torch.empty(shape, dtype=dtypes[name], device=self.device) for name, shape in zip(gives, shapes, strict=True)
            ]
            for name, value in zip((*takes, *gives), (*held, *outputs), strict=True):
                context.set_tensor_address(name, value.data_ptr())
            if not context.execute_async_v3(torch.cuda.current_stream(self.device).cuda_stream if self.on_gpu else 0):
                raise RuntimeError("tensorrt: a graph failed")
            return tuple(left(place, value) for place, value in enumerate(outputs))

        return run


def _taken(value: Tensor, dtype: torch.dtype) -> Tensor:
    """An input as the engine takes it: TensorRT converts bytes only where they enter or leave, so pictures enter as floats."""
    return value.to(dtype) if value.is_floating_point() or value.dtype == torch.uint8 else value


def _place(name: str) -> int:
    """The number of in3 or out3."""
    return int(name.lstrip("inout"))


def _torch_dtype(trt: Any, dtype: Any) -> torch.dtype:
    kinds = trt.DataType
    return {
        kinds.FLOAT: torch.float32,
        kinds.HALF: torch.float16,
        kinds.BF16: torch.bfloat16,
        kinds.UINT8: torch.uint8,
        kinds.INT32: torch.int32,
        kinds.INT64: torch.int64,
    }[dtype]
