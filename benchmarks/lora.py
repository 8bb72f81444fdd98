"""`app.py bench lora`: what a change of a LoRA's weight costs, and what LoRAs cost in every frame.

A LoRA with random factors on all attention and feed-forward layers, or on all layers where a model has few of these. Medians.
Models other than registered ones: shapes of benchmarks/shapes.py with random weights.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import shapes
from pipelines import Entry, Frame, LoraUse, ModelParts, Settings, StreamPipeline, StreamSpec, describe, load

ROUNDS = 7
FEW = 40  # attention layers; a model with fewer has its LoRA on all layers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="pocket", help=f"a model, or a shape: {', '.join(shapes.SHAPES)} (default: pocket)")
    parser.add_argument("--backend", default="openvino", choices=("eager", "openvino", "compile"))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=15, help="timed for a median; 0 times changes only (default: 15)")


def main(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        model = str(shapes.save(where / "model", args.model)) if args.model in shapes.SHAPES else args.model
        layers, lora = random_lora(model, where / "lora.safetensors", args.rank)
        spec = StreamSpec(model, args.size, args.size, args.backend, args.dtype, args.device)
        found: dict[str, Any] = {"layers": layers, "rank": args.rank}
        if args.frames:
            found["frame_ms"] = measured_frame(load(spec, where / "graphs"), args.frames)
        pipeline = load(replace(spec, loras=(lora,)), where / "graphs")
        if args.frames:
            found["frame_with_lora_ms"] = measured_frame(pipeline, args.frames)
        found |= changes(pipeline, lora)
    return {"model": args.model, "backend": args.backend, "dtype": pipeline.spec.dtype, "size": args.size, **found}


def random_lora(model: str, path: Path, rank: int) -> tuple[int, LoraUse]:
    """(layers, LoRA) of a file with small random factors for a model's UNet."""
    import torch
    from safetensors.torch import save_file
    from torch import nn

    unet = ModelParts(describe(model)).unet
    every = [(name, layer) for name, layer in unet.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    chosen = [pair for pair in every if ".attn" in pair[0] or ".ff." in pair[0] or ".proj_" in pair[0]]
    content: dict[str, Any] = {}
    generator = torch.Generator().manual_seed(0)
    for name, layer in chosen if len(chosen) >= FEW else every:
        out, into, *window = layer.weight.shape
        down = torch.randn(rank, into, *window, generator=generator) / layer.weight[0].numel() ** 0.5
        up = torch.randn(out, rank, *(1 for _ in window), generator=generator) / 10
        content |= {f"unet.{name}.lora_A.weight": down.half(), f"unet.{name}.lora_B.weight": up.half()}
    save_file(content, path)
    return len(content) // 2, LoraUse(str(path), 0.5)


def measured_frame(pipeline: StreamPipeline, count: int) -> float:
    """Milliseconds of the model for one frame at one step, median of `count`."""
    run = _frames(pipeline)
    return round(median([next(run) for _ in range(count + 3)][3:]), 2)


def _frames(pipeline: StreamPipeline) -> Iterator[float]:
    settings = Settings()
    state = pipeline.open(settings)
    picture = np.random.default_rng(0).integers(0, 256, (pipeline.spec.height, pipeline.spec.width, 3), np.uint8)
    for index in itertools.count():
        (answer,) = pipeline.step([Entry(state, Frame(index, 0.0, picture), settings)])
        yield answer.timings.model


def changes(pipeline: StreamPipeline, lora: LoraUse) -> dict[str, Any]:
    """Milliseconds, medians, and those of processor time: of a change of weight (plan: in another thread, while the stream runs;
    change: between two steps), and of the removal, where it needs no other graphs."""
    found: dict[str, Any] = {}
    timed: dict[str, list[tuple[float, float]]] = {"plan": [], "change": []}
    for number in range(ROUNDS):
        wanted = replace(pipeline.spec, loras=(replace(lora, weight=0.1 * (number + 1)),))
        with _timed(timed["plan"].append):
            change = pipeline.lora_change(wanted)
        if change is None:
            return {"in_place": False}
        with _timed(timed["change"].append):
            pipeline.change_loras(change)
    for name, spent in timed.items():
        found[f"{name}_ms"] = round(median(wall for wall, _ in spent), 3)
        found[f"{name}_cpu_ms"] = round(median(cpu for _, cpu in spent), 3)
    change = pipeline.lora_change(replace(pipeline.spec, loras=()))
    if change is not None:
        removed: list[tuple[float, float]] = []
        with _timed(removed.append):
            pipeline.change_loras(change)
        found["remove_ms"] = round(removed[0][0], 3)
    return {"in_place": True, **found}


@contextmanager
def _timed(keep: Callable[[tuple[float, float]], object]) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    keep(((time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000))
