"""Measures each operation of kernels/ against torch.compile's own fusion of its reference, and against the eager reference.

On CUDA the kernel is measured too, and the result names the fastest: a kernel that is slower than the compiled reference is to be
deleted. On a CPU the references run eagerly and compiled. Lanes take turns in blocks; results are medians over blocks.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks import gpu_state, machine
from benchmarks.measure import positive
from kernels import group_norm_silu, pixels, prediction, stream_step

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Case:
    """One operation at one size: its reference, and its kernel on a GPU.

    replayed: the engine has the operation inside a CUDA graph, where a launch costs nothing, so it is measured in one.
    """

    name: str
    size: str
    reference: Callable[..., object]
    kernel: Callable[..., object]
    inputs: tuple[Any, ...]
    replayed: bool = True


def cases(size: int, rows: int, device: torch.device) -> Iterator[Case]:
    """The operations for pictures of size², and for the feature maps of a UNet with SD-Turbo's widths."""
    generator = torch.Generator().manual_seed(0)
    half = torch.float16 if device.type == "cuda" else torch.float32

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    def pictures() -> Tensor:
        return torch.randint(0, 256, (rows, size, size, 3), dtype=torch.uint8, generator=generator).to(device)

    text = f"{rows} x {size}²"
    given = pictures()
    yield Case("pixels in", text, pixels.enter_reference, pixels.enter, (given, half))
    yield Case("pixels in, halved", text, pixels.enter_reference, pixels.enter, (given, half, (size // 2, size // 2)))
    x = drawn(rows, 3, size, size).to(half).contiguous(memory_format=torch.channels_last)
    yield Case("pixels out", text, pixels.leave_reference, pixels.leave, (x,))
    latent = size // 8
    levels = [prediction.Level(0.7, 0.714, 1.5, 0.9, 0.436)] * rows
    tensors = [drawn(rows, 4, latent, latent) for _ in range(4)]
    step = ("epsilon", tensors[0], tensors[1], levels, tensors[2], tensors[3])
    yield Case("stream step", f"{rows} x 4 x {latent}²", stream_step.stream_step_reference, stream_step.stream_step, step, False)
    for channels, side in ((320, latent), (640, latent // 2), (1280, latent // 4)):
        h = drawn(rows, channels, side, side).to(half).contiguous(memory_format=torch.channels_last)
        norm = (h, 32, drawn(channels).to(half), drawn(channels).to(half), 1e-5, drawn(rows, channels).to(half))
        reference, kernel = group_norm_silu.group_norm_silu_reference, group_norm_silu.group_norm_silu
        yield Case("group norm + silu", f"{rows} x {channels} x {side}²", reference, kernel, norm)


def clock(call: Call, repeats: int, on_gpu: bool) -> float:
    """Milliseconds of one call, from `repeats` launches in a row."""
    if not on_gpu:
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return (time.perf_counter() - start) * 1000 / repeats
    start_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start_event.record()
    for _ in range(repeats):
        call()
    end_event.record()
    end_event.synchronize()
    return float(start_event.elapsed_time(end_event)) / repeats


def recorded(call: Call) -> Call:
    """The call as a CUDA graph."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


@torch.inference_mode()
def measure(case: Case, blocks: int, repeats: int, device: torch.device) -> dict[str, Any]:
    on_gpu = device.type == "cuda"
    compiled = torch.compile(case.reference, dynamic=False)
    lanes: dict[str, Call] = {
        "eager": partial(case.reference, *case.inputs),
        "compiled": partial(compiled, *case.inputs),
    }
    if on_gpu:
        lanes["kernel"] = partial(case.kernel, *case.inputs)
        if case.replayed:
            lanes = {name: recorded(call) for name, call in lanes.items()}
    found: dict[str, list[float]] = {name: [] for name in lanes}
    for block in range(blocks + 1):
        for name, call in lanes.items():
            took = clock(call, repeats, on_gpu)
            if block:  # the first one compiles
                found[name].append(took)
    ms = {name: round(median(values), 4) for name, values in found.items()}
    result: dict[str, Any] = {"name": case.name, "size": case.size, "ms": ms, "fastest": min(ms, key=lambda name: ms[name])}
    if on_gpu:
        result["compiled_to_kernel"] = round(ms["compiled"] / ms["kernel"], 3)
    return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=positive, default=512)
    parser.add_argument("--rows", type=positive, nargs="+", default=[1, 4])
    parser.add_argument("--blocks", type=positive, default=7)
    parser.add_argument("--repeats", type=positive, default=50, help="calls in a block")
    parser.add_argument("--only", metavar="NAME", help="operations whose names start with NAME")


def main(args: argparse.Namespace) -> dict[str, Any]:
    about = machine.describe()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results = []
    for rows in args.rows:
        for case in cases(args.size, rows, device):
            if case.name.startswith(args.only or ""):
                results.append(found := measure(case, args.blocks, args.repeats, device))
                times = "  ".join(f"{name} {took:.3f}" for name, took in found["ms"].items())
                print(f"{case.name:20}{case.size:18}{times}  fastest: {found['fastest']}", flush=True)
    if device.type == "cpu":
        print("No GPU: only the references were measured.")
    return {"machine": about, "gpu": gpu_state.describe(), "device": device.type, "operations": results}
