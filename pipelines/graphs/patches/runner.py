"""Runs the UNet's passes over two devices: the upper half of the latent here, the lower one in a worker process.

The worker reads the same networks for itself. It gets one line of JSON for each call, then the inputs' lower halves, and sends
back those of the outputs. It ends with this process, whose end it sees at its standard input.
"""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from pipelines.graphs.patches.transport import GroupTransport, TransferError
from pipelines.networks.patches import Exchange, Halves, halved
from pipelines.values.types import PatchWorkerError, SpecError, StreamSpec

PARTS = ("full", "shallow", "relay", "encoder", "decoder")
"""The passes of the UNet that are halved; all others run on the first device alone."""

Slot = tuple[int, ...]
"""A stream's number, the level of a row, and its place among the rows of its frame."""

SLOTS = 32
"""Rows of streams whose activations are kept. The least recently used goes first; its next call is synchronous."""

START_S = 600.0
"""For the worker to read its networks."""

EXCHANGE_S = 30.0
"""For one transfer. A process that has ended is noticed at once."""

RUN = "import sys; sys.path[:] = {path!r}; from pipelines.graphs.patches.worker import main; main()"


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: for the worker's start, and for each transfer."""

    start: float = START_S
    exchange: float = EXCHANGE_S


class PatchRunner:
    """The worker of one pipeline, which starts with the first pass. spec: resolved. Methods from one thread at a time."""

    def __init__(self, spec: StreamSpec, limits: Limits = Limits()) -> None:
        self.spec, self.limits = spec, limits
        self.process: subprocess.Popen[str] | None = None
        self._halves: dict[str, Halves] = {}
        self._transport: GroupTransport | None = None
        self._recent: OrderedDict[Slot, None] = OrderedDict()
        self._lost = ""

    def graph(self, key: dict[str, Any], module: nn.Module, enter: Callable[[Tensor], Tensor]) -> PatchGraph:
        """A graph of a pass. key: the fields of its GraphKey. enter: puts an input on the device, in its dtype. Raises SpecError
        for a network that cannot be halved, PatchWorkerError where the worker does not start."""
        halves = Halves(0, self._started(), cast(Exchange, self.spec.patch_exchange))
        graph = PatchGraph(self, key, halves, half_of(module, halves), enter)
        self._halves[json.dumps(key, sort_keys=True)] = halves
        return graph

    def close(self) -> None:
        """End the worker."""
        self._lost = self._lost or "it was closed"
        if self.process is not None:
            _stop(self.process)

    def run(self, graph: PatchGraph, inputs: Sequence[Tensor], slots: Sequence[Slot]) -> tuple[Tensor, ...]:
        """The outputs of a pass of whole inputs. Raises PatchWorkerError where the worker is gone, from then on each time."""
        if self._lost:
            raise PatchWorkerError(self._message())
        try:
            return self._run(graph, inputs, slots)
        except (TransferError, OSError, ValueError) as error:
            self._lose(str(error))
            raise PatchWorkerError(self._message()) from error
        except BaseException:
            self._lose("a call was interrupted")  # the worker waits in the midst of it
            raise

    def _run(self, graph: PatchGraph, inputs: Sequence[Tensor], slots: Sequence[Slot]) -> tuple[Tensor, ...]:
        transport = self._started()
        forgotten = self._used(slots)
        for halves in list(self._halves.values()):  # another thread may build a graph meanwhile
            halves.forget(forgotten)
        uppers, lowers = zip(*(_parts(value) for value in inputs), strict=True)
        stale = graph.halves.knows(slots)
        shapes = [list(value.shape) for value in lowers]
        dtype = str(lowers[0].dtype).removeprefix("torch.")
        self._tell({"key": graph.key, "slots": slots, "stale": stale, "forget": forgotten, "shapes": shapes, "dtype": dtype})
        for value in lowers:
            transport.send(value)
        outputs = graph.compute(uppers, slots, stale)
        lower = [transport.receive(tuple(value.shape), value.dtype) for value in outputs]
        return tuple(torch.cat(pair, dim=-2) for pair in zip(outputs, lower, strict=True))

    def _used(self, slots: Sequence[Slot]) -> list[Slot]:
        """Note the use of these; returns those that are to be forgotten."""
        for slot in slots:
            self._recent[slot] = None
            self._recent.move_to_end(slot)
        return [self._recent.popitem(last=False)[0] for _ in range(len(self._recent) - max(SLOTS, len(slots)))]

    def _tell(self, line: dict[str, Any]) -> None:
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()

    def _started(self) -> GroupTransport:
        if self._transport is not None:
            return self._transport
        with tempfile.TemporaryDirectory(prefix="rill-") as folder:
            command = [sys.executable, "-c", RUN.format(path=sys.path)]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            weakref.finalize(self, _stop, self.process)
            try:
                self._tell({"spec": asdict(self.spec), "folder": folder, "seconds": self.limits.exchange})
                self._await_ready()
                device = torch.device(self.spec.patch_devices[0])
                self._transport = GroupTransport(Path(folder), 0, device, self.limits.exchange)
            except (TransferError, OSError) as error:
                self._lose(str(error))
                raise PatchWorkerError(self._message()) from error
        return self._transport

    def _await_ready(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], self.limits.start)
        if not ready:
            raise TransferError(f"it was not ready within {self.limits.start:g} s")
        if self.process.stdout.readline().strip() != "ready":
            raise TransferError("it ended while it read the model")

    def _lose(self, reason: str) -> None:
        code = None
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(0.5)  # one that has just ended may not be reaped yet
            _stop(self.process)
        self._lost = self._lost or (reason if code is None else f"it ended with code {code}")

    def _message(self) -> str:
        worker = f"patch_devices: the worker of {self.spec.patch_devices[1]} is gone ({self._lost})"
        return f"{worker}; start again, or leave patch_devices out"


class PatchGraph:
    """A graph over two devices. Called without slots every exchange is synchronous."""

    def __init__(
        self, runner: PatchRunner, key: dict[str, Any], halves: Halves, module: nn.Module, enter: Callable[[Tensor], Tensor]
    ) -> None:
        self.runner, self.key, self.halves, self.module, self.enter = runner, key, halves, module, enter

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.of_slots((), *inputs)

    def of_slots(self, slots: Sequence[Slot], *inputs: Tensor) -> tuple[Tensor, ...]:
        """As a call. slots: what stream, level and place each row is of; its activations are kept under that."""
        outputs = self.runner.run(self, [self.enter(value) for value in inputs], slots)
        return (outputs[0].float(), *outputs[1:])

    def compute(self, inputs: Sequence[Tensor], slots: Sequence[Slot], stale: bool) -> tuple[Tensor, ...]:
        """The outputs of this half."""
        return compute(self.module, self.halves, inputs, slots, stale)


def compute(
    module: nn.Module, halves: Halves, inputs: Sequence[Tensor], slots: Sequence[Slot], stale: bool
) -> tuple[Tensor, ...]:
    """One half's outputs of one call; what it sent and received meanwhile is kept for the next."""
    picture = next(value for value in inputs if value.ndim == 4)
    halves.begin(slots, stale, (picture.shape[-2], picture.shape[-1]))
    outputs: tuple[Tensor, ...] = module(*inputs)
    halves.end()
    return outputs


def half_of(module: nn.Module, halves: Halves) -> nn.Module:
    """As `halved`. Raises SpecError."""
    try:
        return halved(module, halves)
    except ValueError as error:
        raise SpecError("patch_devices", f"{error}; leave it out for this model") from error


def _parts(value: Tensor) -> tuple[Tensor, Tensor]:
    """What each half takes of an input: its rows, or all of what is no picture."""
    if value.ndim != 4:
        return value, value
    upper, lower = value.chunk(2, dim=-2)
    return upper, lower


def _stop(process: subprocess.Popen[str]) -> None:
    """End it: by its input's end, then by a signal."""
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:
                stream.close()
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
