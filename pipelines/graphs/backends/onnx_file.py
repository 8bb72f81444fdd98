"""A graph as an ONNX file, by torch's exporter: what TensorRT reads. Inputs are named in0, in1, .., outputs out0, out1, .."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

OPSET = 20
PACKAGES = ("onnx", "onnxscript")


def missing() -> tuple[str, ...]:
    """The packages that the exporter needs and that are not installed."""
    return tuple(name for name in PACKAGES if find_spec(name) is None)


def write(module: nn.Module, example: Sequence[Tensor], path: Path) -> None:
    """Write a module for inputs of the example's shapes and dtypes. Its weights lie beside the file, since a file of ONNX holds
    at most 2 GB."""
    with torch.inference_mode(), _quiet():
        program = torch.export.export(module, tuple(example))
        torch.onnx.export(
            program,
            f=path,
            input_names=[f"in{index}" for index in range(len(example))],
            output_names=[f"out{index}" for index in range(len(program.graph_signature.user_outputs))],
            opset_version=OPSET,
            external_data=True,
            dynamo=True,
            verbose=False,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's hints: it names every package that it can do without, and what torch itself deprecates."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
