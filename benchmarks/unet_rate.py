"""The UNet's time over that of its FLOPs at the rate of a matrix product: 1 would be a graph of nothing but ideal products.

Both are measured in turn in one run, by OpenVINO in the precision of the pipeline. FLOPs are those of the graph that runs
(upsamplers as transposed convolutions), a multiplication and an addition counted as two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kernels import groupnorm, upsample
from pipelines import StreamPipeline
from pipelines.graphs.keys import GraphKey

SIDE = 1024
ROUNDS = 25
HINTS = {"float32": "f32", "bfloat16": "bf16"}


def hint(dtype: str) -> str:
    """OpenVINO's name of a precision. ValueError for one in which no plain product is made."""
    if dtype not in HINTS:
        raise ValueError(f"a graph in {dtype} has no product to compare with; {' and '.join(HINTS)} have")
    return HINTS[dtype]


def flops(module: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Of the convolutions and products of one call."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return int(counter.get_total_flops())


def product(precision: str, side: int = SIDE) -> Callable[[], object]:
    """A compiled product of two matrices [side, side], one of them constant as weights are; "f32" or "bf16"."""
    import openvino as ov
    import openvino.opset13 as ops

    rng = np.random.default_rng(0)
    taken = ops.parameter([side, side], np.float32)
    weight = ops.constant(rng.standard_normal((side, side)).astype(np.float32))
    model = ov.Model([ops.matmul(taken, weight, False, True)], [taken])
    config = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(model, "CPU", config).create_infer_request()
    request.set_input_tensor(ov.Tensor(rng.standard_normal((side, side)).astype(np.float32)))
    return lambda: request.infer()


def in_turn(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """The median seconds of each call, after two to warm up."""
    spent: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds + 2):
        for call, values in zip(calls, spent, strict=True):
            start = time.perf_counter()
            call()
            if turn >= 2:
                values.append(time.perf_counter() - start)
    return [median(values) for values in spent]


def over(unet_s: float, unet_flops: int, product_s: float, side: int = SIDE) -> dict[str, float]:
    rate = 2 * side**3 / product_s
    return {
        "unet_ms": round(unet_s * 1000, 2),
        "unet_gflop": round(unet_flops / 1e9, 3),
        "gemm_gflop_per_s": round(rate / 1e9, 1),
        "unet_over_gemm": round(unet_s * rate / unet_flops, 3),
    }


def measure(pipeline: StreamPipeline, rounds: int = ROUNDS) -> dict[str, Any]:
    """One row of the full pass of a pipeline in OpenVINO, float32 or bfloat16."""
    graphs, key = pipeline.graphs, GraphKey("full", 1, None)
    inputs = graphs._example(key)
    module = upsample.rewrite(groupnorm.rewrite(graphs.module(key).float().eval()))  # as OpenVinoBackend converts it
    count = flops(module, inputs)
    calls = (lambda: graphs.run("full", inputs), product(hint(pipeline.spec.dtype)))
    unet_s, product_s = in_turn(calls, rounds)
    return over(unet_s, count, product_s)
