"""OpenVINO on the CPU: bf16 where the processor is faster in it (`precision`), float32 or int8 elsewhere.

int8 is NNCF's post-training quantisation of weights and activations, calibrated with the inputs that the graph is going to meet;
what loses too much that way (`KEPT_IN_FLOATS`, `KINDS_IN_FLOATS`) stays in floats. int4 is SVDQuant of the weights (`four_bits`).

Compiled graphs are kept on disk between starts (`store`), with the weights in fp16 as shipped. Names hold the fingerprint of the
weights, so new weights never meet old graphs. OpenVINO's own cache is not used: it computes with whatever it finds there. Of
files with 64 bytes inverted, a .bin and a .blob were both taken, and the results were noise.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import struct
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import torch
from openvino._offline_transformations import compress_model_transformation
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from openvino.preprocess import PrePostProcessor
from torch import Tensor, nn

from kernels import groupnorm, upsample
from pipelines.graphs import malloc_trim
from pipelines.graphs.backends import four_bits, traces
from pipelines.graphs.backends.base import Graph, Samples
from pipelines.graphs.backends.building import Builder
from pipelines.graphs.backends.store import FileLease, GraphStore
from pipelines.graphs.layout import ON_CPU
from pipelines.networks import svdquant
from pipelines.values.types import GRAPHS_ON_DISK

TWO_LANES_BELOW = 64 * 64
"""Positions of a latent up to which two rows run beside each other, on half of the cores each. Layers so small are over before
a second core has taken its share, and two threads that wait for each other at every layer lose to any neighbour. Two rows of
pocket at 512 x 512, in two lanes and one after the other (ms, two cores of an AMD EPYC): full pass 50.7 and 54.0, beside another
process on half a core 72.0 and 102.5; encode 1.8 and 2.8; decode 24.7 and 42.2."""

TWO_LANES_WEIGHTS = 50_000_000
"""Weights of a model up to which that is done: each lane reads all of them, which costs nothing where they stay in the cache."""

ABOUT = struct.Struct("<Q")
"""What stands before OpenVINO's bytes in a file: how many numbers the weights are."""

ONE_POOL = "EXCLUSIVE_ASYNC_REQUESTS"
"""Graphs of this property compute in one pool of threads, one call at a time, which is what the engine does. Without it each has
a pool of its own: 2 to 3 threads, of which one is left, which waits. One row of pocket at 192 x 192 took 14.3 and 14.5 ms without
and 14.5 and 13.6 with it (the fastest of 500 calls of each in turn, two cores shared with others)."""

KEPT_IN_FLOATS = [".*synthesis.*"]
"""Names of nodes that int8 leaves alone: what draws the pixels."""

KINDS_IN_FLOATS = ["Add", "Subtract", "Multiply", "Divide", "Power", "Sqrt", "ReduceMean", "MVN", "Concat"]
"""Kinds of nodes that int8 leaves alone, so it quantises what convolutions and products of matrices take. NNCF's list for CPUs
has element-wise operations too: sums along the residual path, normalisations, and one range for both halves of a concatenation
with a skip. They are where pictures are lost (docs/experiments/precision.md, 24)."""


TRACED_ONCE = {"check_trace": False}
"""Otherwise TorchScript traces each network twice and compares the traces. These networks have no randomness and no branch on
values. The conversion of a miniature UNet took 2.1 s with the check and 1.4 s without (one core)."""


@cache
def _core() -> Any:
    core = ov.Core()
    core.set_property({"CACHE_MODE": "OPTIMIZE_SPEED"})
    return core


@cache
def supports(kind: str) -> bool:
    """Whether the processor computes in BF16, INT8, ... as OpenVINO names them."""
    return kind in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def convolutions(precision: str, channels: int, side: int) -> Callable[[], object]:
    """A compiled graph of four 3 x 3 convolutions over `channels` planes of side x side values, to be timed; "f32" or "bf16"."""
    rng = np.random.default_rng(0)
    taken = value = ops.parameter([1, channels, side, side], np.float32)
    for _ in range(4):
        weight = (rng.standard_normal((channels, channels, 3, 3)) / (3 * channels**0.5)).astype(np.float32)
        value = ops.convolution(value, ops.constant(weight), [1, 1], [1, 1], [1, 1], [1, 1])
    config = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    request = _core().compile_model(ov.Model([value], [taken]), "CPU", config).create_infer_request()
    request.set_input_tensor(ov.Tensor(rng.standard_normal((1, channels, side, side)).astype(np.float32)))
    return lambda: request.infer()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class OpenVinoBackend(Builder):
    name = "openvino"
    device = torch.device("cpu")
    layout = ON_CPU
    torch_threads = 1

    def __init__(self, dtype: str, cache_dir: Path | None, disk: int = GRAPHS_ON_DISK, in_four_bits: bool = False) -> None:
        """dtype: float32, bfloat16 or int8. in_four_bits: the UNet's weights, beside floats of that dtype."""
        self.precision = "bf16" if dtype == "bfloat16" else "f32"
        self.cores = usable_cores()
        self.store = None if cache_dir is None else GraphStore(cache_dir / "openvino", disk)
        self.in_four_bits = in_four_bits
        self._exact = self if self.precision == "f32" and not in_four_bits else OpenVinoBackend("float32", cache_dir, disk)

    def lanes(self, rows: int, cells: int, weights: int) -> int:
        """Two for an even number of rows of a small network on small latents: see TWO_LANES_BELOW."""
        small = cells <= TWO_LANES_BELOW and weights <= TWO_LANES_WEIGHTS
        return 2 if small and rows % 2 == 0 and self.cores % 2 == 0 else 1

    def _build(
        self, key: str, make: Callable[[], nn.Module], example: Sequence[Tensor], samples: Samples | None, lanes: int
    ) -> Graph:
        name, config = self._name(key, samples is not None), self._config(lanes)
        found = self._found(name, config)
        if found is None:
            found = self._kept(name, self.model(make, example, samples), config)
            malloc_trim.trim()  # a collection takes 0.1 s, and what comes from disk leaves nothing behind
        return _graph(*found, lanes, None if self.store is None else self.store.lease(name))

    def _encoder(self, key: str, make: Callable[[], nn.Module], example: Sequence[Tensor]) -> Graph:
        return self._exact._build(key, make, example, None, 1)

    def kept(self, key: str, make: Callable[[], bytes]) -> bytes:
        name = hashlib.sha256(key.encode()).hexdigest()[:24] + ".bytes"
        content = None if self.store is None else self.store.read(name)
        if content is None:
            content = make()
            if self.store is not None:
                self.store.write(name, content)
        return content

    def model(self, make: Callable[[], nn.Module], example: Sequence[Tensor], samples: Samples | None = None) -> Any:
        """The graph in OpenVINO's own form, before it is compiled; its weights in half precision, as they are kept on disk."""
        model = self._convert(make, example, samples is None)
        if self.precision == "bf16":
            model = _with_features_as_computed(model, example)
        if samples is not None:
            model = _quantised(model, samples())
        compress_model_transformation(model)
        if self.in_four_bits:  # afterwards: OpenVINO leaves all other weights in float32 where it finds some of 4 bits
            model = four_bits.compressed(model)
        malloc_trim.trim()
        return model

    def _config(self, lanes: int) -> dict[str, Any]:
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": self.precision}
        if lanes == 1:
            return config | {"PERFORMANCE_HINT": "LATENCY", ONE_POOL: True}
        return config | {"NUM_STREAMS": lanes, "INFERENCE_NUM_THREADS": self.cores}

    def portable(self, key: str, calibrated: bool) -> bool:
        return self.store is not None and not self.store.refuses and not self.store.has(self._name(key, calibrated))

    def _name(self, key: str, calibrated: bool) -> str:
        """Another version, processor or number of cores compiles another graph."""
        key = f"{key} {KEPT_IN_FLOATS} {KINDS_IN_FLOATS}" if calibrated else key
        processor = [_core().get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
        about = f"{ov.__version__} {torch.__version__} {processor} {self.cores} {self.precision} {key}"
        return hashlib.sha256(about.encode()).hexdigest()[:24] + ".graph"

    def _found(self, name: str, config: dict[str, Any]) -> tuple[Any, int] | None:
        """The compiled model and how many numbers its weights are, from disk; None if there is none that OpenVINO takes."""
        content = None if self.store is None else self.store.read(name)
        if self.store is None or content is None:
            return None
        try:
            (weights,) = ABOUT.unpack_from(content)
            return _core().import_model(content[ABOUT.size :], "CPU", config), weights
        except Exception as error:  # whatever it finds wrong, the graph can be built
            self.store.discard(name, f"is not taken ({str(error).splitlines()[0][:200]})")
            return None

    def _kept(self, name: str, model: Any, config: dict[str, Any]) -> tuple[Any, int]:
        """As `_found`, of a model that is written to disk where there is a store."""
        compiled, weights = _core().compile_model(model, "CPU", config), _weights(model)
        if self.store is not None:
            content = io.BytesIO()
            compiled.export_model(content)
            self.store.write(name, ABOUT.pack(weights) + content.getbuffer())
        return compiled, weights

    def _convert(self, make: Callable[[], nn.Module], example: Sequence[Tensor], floats: bool) -> Any:
        module = groupnorm.rewrite(make().float().eval())
        if floats:  # OpenVINO computes no transposed convolution in int8: 3.7 ms of a UNet where plain ones take 2.2
            module = upsample.rewrite(module)
        if self.in_four_bits and svdquant.of_unet(module):
            module = svdquant.rewrite(module)
        with torch.inference_mode(), warnings.catch_warnings():
            # Tracing warns of every shape check in diffusers; the shapes of these graphs are fixed on purpose.
            warnings.simplefilter("ignore")
            decoder = TorchScriptPythonDecoder(module, example_input=tuple(example), trace_kwargs=TRACED_ONCE)
            model = ov.convert_model(decoder, example_input=tuple(example))
        traces.forget()
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
    for index, output in enumerate(model.outputs):
        if index == 0 or len(output.partial_shape) != 4:
            continue
        steps.output(index).tensor().set_element_type(ov.Type.bf16)
    return steps.build()


def _quantised(model: Any, samples: Sequence[tuple[Tensor, ...]]) -> Any:
    import nncf

    data = nncf.Dataset([[value.numpy() for value in sample] for sample in samples])
    floats = nncf.IgnoredScope(patterns=KEPT_IN_FLOATS, types=KINDS_IN_FLOATS, validate=False)
    with four_bits.quiet_nncf():
        return nncf.quantize(model, data, subset_size=len(samples), preset=nncf.QuantizationPreset.MIXED, ignored_scope=floats)


def _weights(model: Any) -> int:
    """How many numbers a model's weights are."""
    return sum(math.prod(node.get_output_shape(0)) for node in model.get_ops() if node.get_type_name() == "Constant")


TORCH = {ov.Type.f32: torch.float32, ov.Type.bf16: torch.bfloat16, ov.Type.u8: torch.uint8}
"""The types of what graphs give."""


def _graph(compiled: Any, weights: int = 0, lanes: int = 1, lease: FileLease | None = None) -> Graph:
    """The compiled model as a graph. weights: how many numbers it holds; lanes: as in `Backend.build`; hold: of its file."""
    requests = [compiled.create_infer_request() for _ in range(lanes)]
    taken = [port.element_type == ov.Type.bf16 for port in compiled.inputs]
    given = [([lanes * port.shape[0], *list(port.shape)[1:]], TORCH[port.element_type]) for port in compiled.outputs]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        values = [_laid_out(value, half) for value, half in zip(inputs, taken, strict=True)]  # alive until the call is over
        outputs = tuple(torch.empty(shape, dtype=dtype) for shape, dtype in given)
        with contextlib.ExitStack() as started:  # whatever fails, none reads or writes any more when this is left
            for index, request in enumerate(requests):
                for place, value in enumerate(outputs):
                    request.set_output_tensor(place, _shared(value.chunk(lanes)[index]))
                for place, value in enumerate(values):
                    request.set_input_tensor(place, _shared(value.chunk(lanes)[index]))
                request.start_async()
                started.callback(request.wait)
        return outputs

    run.lease, run.weights = lease, weights  # type: ignore[attr-defined]
    return run


def _laid_out(value: Tensor, half: bool) -> Tensor:
    """As a graph takes it: contiguous, and bfloat16 only where its input is."""
    if half or value.dtype == torch.bfloat16:
        value = value.to(torch.bfloat16 if half else torch.float32)
    return value.contiguous()


def _shared(value: Tensor) -> Any:
    """The tensor's own memory. NumPy has no bfloat16, so it passes as integers of 16 bits."""
    if value.dtype == torch.bfloat16:
        return ov.Tensor(value.view(torch.int16).numpy(), ov.Shape(list(value.shape)), ov.Type.bf16)
    return ov.Tensor(value.numpy(), shared_memory=True)
