"""TensorRT's Python interface as far as the backend uses it, over ONNX Runtime on the CPU. An engine is an ONNX file."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

__version__ = "0"

DataType = SimpleNamespace(FLOAT="float", HALF="float16", BF16="bfloat16", UINT8="uint8", INT32="int32", INT64="int64")
TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=0)
NUMPY = {"float": np.float32, "float16": np.float16, "uint8": np.uint8, "int32": np.int32, "int64": np.int64}


class Logger:
    WARNING = 1

    def __init__(self, severity: int) -> None: ...


class Builder:
    def __init__(self, logger: Logger) -> None: ...

    def create_network(self, flags: int) -> SimpleNamespace:
        assert flags == 1
        return SimpleNamespace(content=b"")

    def create_builder_config(self) -> None: ...

    def build_serialized_network(self, network: SimpleNamespace, config: None) -> memoryview:
        return memoryview(network.content)


class OnnxParser:
    num_errors = 0

    def __init__(self, network: SimpleNamespace, logger: Logger) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        model = onnx.load(path)  # with the weights beside it
        onnx.checker.check_model(model)
        self.network.content = model.SerializeToString()
        return True


class Context:
    def __init__(self, session: Any) -> None:
        self.session, self.addresses = session, {}

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def _array(self, port: Any) -> Any:
        dtype, count = np.dtype(NUMPY[port.type[7:-1]]), int(np.prod(port.shape))
        memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(self.addresses[port.name])
        return np.frombuffer(memory, dtype).reshape(port.shape)

    def execute_async_v3(self, stream: int) -> bool:
        outputs = self.session.run(None, {port.name: self._array(port) for port in self.session.get_inputs()})
        for port, value in zip(self.session.get_outputs(), outputs, strict=True):
            self._array(port)[...] = value
        return True


class Engine:
    def __init__(self, content: bytes) -> None:
        self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self.ports = {port.name: port for port in (*self.session.get_outputs(), *self.session.get_inputs())}
        self.num_io_tensors = len(self.ports)

    def get_tensor_name(self, index: int) -> str:
        return [*self.ports][index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name in {port.name for port in self.session.get_inputs()} else "out"

    def get_tensor_dtype(self, name: str) -> str:
        return self.ports[name].type[7:-1]  # "tensor(float)"

    def get_tensor_shape(self, name: str) -> list[int]:
        return self.ports[name].shape

    def create_execution_context(self) -> Context:
        return Context(self.session)


class Runtime:
    def __init__(self, logger: Logger) -> None: ...

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        return None if content == b"another version" else Engine(content)
