"""The worker process of patch parallelism: computes the lower half of the latent on the second device (runner.py)."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.checkpoints.naming import describe, with_loras
from pipelines.graphs.backends.eager import EagerBackend
from pipelines.graphs.graphs import Graphs
from pipelines.graphs.keys import GraphKey
from pipelines.graphs.patches.runner import compute, half_of
from pipelines.graphs.patches.transport import GroupTransport
from pipelines.networks.patches import Exchange, Halves
from pipelines.values.types import StreamSpec


class Worker:
    """Answers calls until its input ends."""

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = replace(spec, device=spec.patch_devices[1], patch_devices=())
        self.exchange = cast(Exchange, spec.patch_exchange)
        parts = ModelParts(with_loras(describe(spec.model), spec.loras), True)  # the first process has downloaded everything
        floats = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
        self.backend = EagerBackend(torch.device(self.spec.device), floats[spec.dtype], attention_kind=spec.attention)
        self.graphs = Graphs(parts, self.spec, self.backend)
        self._passes: dict[str, tuple[torch.nn.Module, Halves]] = {}
        _ = parts.unet

    @torch.inference_mode()
    def answer(self, line: dict[str, Any], transport: GroupTransport) -> None:
        """One call: receive the inputs, send the outputs."""
        dtype = getattr(torch, line["dtype"])
        module, halves = self._pass(line["key"], transport)
        for _, others in self._passes.values():
            others.forget([tuple(slot) for slot in line["forget"]])
        inputs = [transport.receive(tuple(shape), dtype) for shape in line["shapes"]]
        slots = [tuple(slot) for slot in line["slots"]]
        for value in compute(module, halves, [self.backend.enter(value) for value in inputs], slots, line["stale"]):
            transport.send(value)

    def _pass(self, key: dict[str, Any], transport: GroupTransport) -> tuple[torch.nn.Module, Halves]:
        name = json.dumps(key, sort_keys=True)
        if name not in self._passes:
            halves = Halves(1, transport, self.exchange)
            module = self.backend.module(lambda: self.graphs.module(GraphKey(**key)))
            self._passes[name] = half_of(module, halves), halves
        return self._passes[name]


def main() -> None:
    """The first line of the input is the spec and where to meet; each other one is a call."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    begin = json.loads(sys.stdin.readline())
    spec = StreamSpec(**begin["spec"])
    if spec.patch_devices[1] == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // 2))
    worker = Worker(spec)
    print("ready", file=answers, flush=True)
    transport = GroupTransport(Path(begin["folder"]), 1, torch.device(spec.patch_devices[1]), begin["seconds"])
    for line in sys.stdin:
        worker.answer(json.loads(line), transport)
