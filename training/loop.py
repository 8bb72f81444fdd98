"""Common parts of all training runs: the folder with log and checkpoint, moving averages, the learning rate, the step loop.

On a CPU the loop runs one thread per part of the batch, each with single-threaded kernels: oneDNN's bfloat16 backward
convolutions took 13 to 200 ms with two threads against 3 to 5 ms with one (16 x 64 x 32 x 32, two busy cores).
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor, nn
from tqdm import tqdm

from pipelines.graphs.backends.precision import pays_in_torch


def mixed(device: str) -> torch.autocast:
    """Autocast to bfloat16 on a type of device; on a CPU only where that is faster than float32."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=device != "cpu" or pays_in_torch(), cache_enabled=False)


class Run:
    """A folder that holds `log.jsonl` (one object per logged step), `checkpoint.pt` and the picture sheets of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def log(self, **values: float) -> None:
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps({"at": round(time.time(), 1), **values}) + "\n")

    def save(self, state: dict[str, Any]) -> None:
        """Replaces the checkpoint atomically, so that a killed run leaves a whole one."""
        partial = self.folder / "checkpoint.partial"
        torch.save(state, partial)
        os.replace(partial, self.folder / "checkpoint.pt")

    def load(self) -> dict[str, Any] | None:
        path = self.folder / "checkpoint.pt"
        return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


class Average:
    """Exponential moving average of a module's parameters: shadow += (1 - decay) (parameter - shadow).

    The decay grows as (1 + k) / (10 + k) towards its limit, so that early averages are not stuck at the start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay, self.updates = module, decay, 0
        self.shadow = [p.detach().clone() for p in module.parameters()]

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.module.parameters()], 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        for target, value in zip(module.parameters(), self.shadow, strict=True):
            target.copy_(value)

    def state(self) -> dict[str, Any]:
        return {"shadow": self.shadow, "updates": self.updates}

    def restore(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        for target, value in zip(self.shadow, state["shadow"], strict=True):
            target.copy_(value)


Module = TypeVar("Module", bound=nn.Module)


def channels_last(module: Module) -> Module:
    """The module with its convolution weights in the memory layout that oneDNN and cuDNN are fastest in."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then half a cosine from `peak` to 2% of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def step_rng(seed: int, step: int, part: int = 0) -> Generator:
    """The random generator of one part of one step: a function of its arguments, so a resumed run draws the same numbers."""
    return Generator().manual_seed(((seed * 1_000_003 + step) * 16 + part) % 2**63)


Loss = Callable[[int, Generator], tuple[Tensor, dict[str, float]]]


def gradients(
    module: nn.Module, loss: Loss, step: int, seed: int, pool: ThreadPoolExecutor, parts: int
) -> tuple[float, dict[str, float]]:
    """Sets every parameter's gradient to the mean over `parts` independent batches; returns mean loss and first figures."""
    parameters = [p for p in module.parameters() if p.requires_grad]

    def part(index: int) -> tuple[float, dict[str, float], tuple[Tensor, ...]]:
        value, figures = loss(step, step_rng(seed, step, index))
        return float(value.detach()), figures, torch.autograd.grad(value / parts, parameters)

    results = list(pool.map(part, range(parts)))
    total = list(results[0][2])
    for _, _, more in results[1:]:
        torch._foreach_add_(total, list(more))
    for parameter, gradient in zip(parameters, total, strict=True):
        parameter.grad = gradient
    return sum(value for value, _, _ in results) / parts, results[0][1]


def optimise(
    run: Run, module: nn.Module, loss: Loss, *, seed: int, steps: int, peak: float, warmup: int, average: float,
    parts: int = 2, save_every: int = 500, sheet: Callable[[nn.Module, int], None] | None = None, stop_at: int | None = None,
) -> Average:  # fmt: skip
    """Runs AdamW from the checkpoint in `run`, where there is one, to `steps`; returns the averaged weights.

    loss(step, rng) computes the loss of one part of a batch, and figures for the log. `sheet(module, step)` is called at
    every save. `stop_at` ends the run early with a checkpoint (the learning rate still follows `steps`).
    """
    optimizer = torch.optim.AdamW(module.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    ema, first = Average(module, average), 0
    if (state := run.load()) is not None:
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        ema.restore(state["average"])
        first = state["step"]
    last = min(steps, stop_at if stop_at is not None else steps)
    began = time.monotonic()
    with ThreadPoolExecutor(parts) as pool:
        for step in tqdm(range(first, last), initial=first, total=steps, mininterval=10, desc=run.folder.name):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps, peak, warmup)
            value, figures = gradients(module, loss, step, seed, pool, parts)
            norm = nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            ema.update()
            if step % 50 == 0:
                run.log(step=step, loss=value, norm=float(norm), seconds=round(time.monotonic() - began, 1), **figures)
            if (step + 1) % save_every == 0 or step + 1 == last:
                checkpoint = {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
                run.save(checkpoint | {"average": ema.state(), "step": step + 1})
                if sheet is not None:
                    sheet(module, step + 1)
    return ema


def averaged(run: Run, module: Module) -> Module:
    """`module`, of the kind that `run` trains, with the averaged weights of its checkpoint, for inference.

    FileNotFoundError where there is no checkpoint.
    """
    state = run.load()
    if state is None:
        raise FileNotFoundError(f"{run.folder}: no checkpoint")
    module.load_state_dict(state["module"])
    average = Average(module, 0.0)
    average.restore(state["average"])
    average.copy_to(module)
    return module.eval()
