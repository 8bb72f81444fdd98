"""OpenVINO on the CPU: bf16 where the processor has it (AMX or AVX512-BF16), float32 or int8 elsewhere.

int8 is NNCF's post-training quantisation of weights and activations, calibrated with the inputs that the graph is going to meet;
what loses too much that way (normalisation, the first and the last convolution) stays in floats.

Two things are kept on disk between starts: the converted graph (IR, with the weights in fp16 as shipped) and OpenVINO's
compiled blob. Both names hold the fingerprint of the weights, so new weights never meet old graphs.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import openvino as ov
import torch
from openvino.preprocess import PrePostProcessor
from torch import Tensor, nn

from kernels.groupnorm import rewrite
from pipelines import heap
from pipelines.backends import Graph, Samples
from pipelines.layout import ON_CPU

KEPT_IN_FLOATS = [".*conv_in.*", ".*conv_out.*", ".*synthesis.*"]
"""Names of nodes that int8 leaves alone: what pixels and latents enter and leave through."""


@cache
def _core() -> Any:
    core = ov.Core()
    core.set_property({"CACHE_MODE": "OPTIMIZE_SPEED"})
    return core


@cache
def supports(kind: str) -> bool:
    """Whether the processor computes in BF16, INT8, ... as OpenVINO names them."""
    return kind in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoBackend:
    name = "openvino"
    device = torch.device("cpu")
    layout = ON_CPU
    torch_threads = 1

    def __init__(self, dtype: str, cache_dir: Path | None) -> None:
        self.precision = "bf16" if dtype == "bfloat16" else "f32"
        self.cache_dir = cache_dir

    def build(self, key: str, make: Callable[[], nn.Module], example: Sequence[Tensor], samples: Samples | None = None) -> Graph:
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": self.precision}
        path = self._ir_path(key)
        if path is not None and path.exists():
            model = _core().read_model(path)
        else:
            model = self._convert(make, example)
            if self.precision == "bf16":
                model = _with_features_as_computed(model, example)
            if samples is not None:
                model = _quantised(model, samples())
            heap.trim()
            if path is not None:
                _save(model, path)
        if path is not None:
            config["CACHE_DIR"] = str(path.parent)
        compiled = _core().compile_model(model, "CPU", config)
        del model
        heap.trim()
        return _graph(compiled)

    def _ir_path(self, key: str) -> Path | None:
        if self.cache_dir is None:
            return None
        digest = hashlib.sha256(f"{ov.__version__} {torch.__version__} {key}".encode()).hexdigest()[:24]
        return self.cache_dir / "openvino" / f"{digest}.xml"

    def _convert(self, make: Callable[[], nn.Module], example: Sequence[Tensor]) -> Any:
        module = rewrite(make().float().eval())
        with torch.inference_mode(), warnings.catch_warnings():
            # Tracing warns of every shape check in diffusers; the shapes of these graphs are fixed on purpose.
            warnings.simplefilter("ignore")
            model = ov.convert_model(module, example_input=tuple(example))
        model.reshape({index: list(value.shape) for index, value in enumerate(example)})
        return model


def _with_features_as_computed(model: Any, example: Sequence[Tensor]) -> Any:
    """What one graph hands to another (hidden states after the first output, and where they come in again, behind the text) stays
    in bf16: half the memory to move, and no conversion. Short pass of branch 1 at 512²: 4.4 to 3.8 ms (pocket, two cores).
    """
    steps = PrePostProcessor(model)
    behind = next((index for index, value in enumerate(example) if value.ndim == 3), len(example))
    for index, value in enumerate(example):
        if index > behind and value.ndim == 4:
            steps.input(index).tensor().set_element_type(ov.Type.bf16)
    for index in range(1, len(model.outputs)):
        steps.output(index).tensor().set_element_type(ov.Type.bf16)
    return steps.build()


def _quantised(model: Any, samples: Sequence[tuple[Tensor, ...]]) -> Any:
    import nncf

    data = nncf.Dataset([[value.numpy() for value in sample] for sample in samples])
    floats = nncf.IgnoredScope(patterns=KEPT_IN_FLOATS, validate=False)
    nncf.set_log_level(logging.ERROR)
    return nncf.quantize(model, data, subset_size=len(samples), preset=nncf.QuantizationPreset.MIXED, ignored_scope=floats)


def _save(model: Any, path: Path) -> None:
    """Written beside and renamed, so that a start that dies half-way leaves no half graph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        ov.save_model(model, part, compress_to_fp16=True)
        os.replace(part.with_suffix(".bin"), path.with_suffix(".bin"))
        os.replace(part, path)


def _graph(compiled: Any) -> Graph:
    request = compiled.create_infer_request()
    taken = [port.element_type == ov.Type.bf16 for port in compiled.inputs]
    halves = {index: list(port.shape) for index, port in enumerate(compiled.outputs) if port.element_type == ov.Type.bf16}

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        kept = {index: torch.empty(shape, dtype=torch.bfloat16) for index, shape in halves.items()}
        given = [_laid_out(value, half) for value, half in zip(inputs, taken, strict=True)]  # alive until the call is over
        for index, value in kept.items():
            request.set_output_tensor(index, _shared(value))
        for index, value in enumerate(given):
            request.set_input_tensor(index, _shared(value))
        request.infer()
        # The request owns the memory of its other outputs and writes it again on the next call.
        return tuple(
            kept[index] if index in kept else torch.from_numpy(request.get_output_tensor(index).data.copy())
            for index in range(len(compiled.outputs))
        )

    return run


def _laid_out(value: Tensor, half: bool) -> Tensor:
    """As a graph takes it: contiguous, and bfloat16 just where it says so."""
    if half or value.dtype == torch.bfloat16:
        value = value.to(torch.bfloat16 if half else torch.float32)
    return value.contiguous()


def _shared(value: Tensor) -> Any:
    """The tensor's own memory. NumPy knows no bfloat16, so that passes as integers of 16 bits."""
    if value.dtype == torch.bfloat16:
        return ov.Tensor(value.view(torch.int16).numpy(), ov.Shape(list(value.shape)), ov.Type.bf16)
    return ov.Tensor(value.numpy(), shared_memory=True)
