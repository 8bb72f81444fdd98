"""Tensors between two processes by torch.distributed: gloo on CPUs, nccl between GPUs. Nothing waits longer than a limit.

Process groups are made directly, not by `init_process_group`, which allows one group for a whole process: two pipelines may live
at once while a stream changes its spec.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor

POLL = 0.0002
"""Seconds between two looks at a transfer of nccl, whose own wait does not end when the other process is gone."""


class TransferError(RuntimeError):
    """A transfer failed: the other process has ended, or did not answer in time."""


class GroupTransport:
    """A `Transport` between places 0 and 1 of a group of two. Blocks until both are there, at most `seconds`. TransferError from
    every method."""

    def __init__(self, folder: Path, place: int, device: torch.device, seconds: float) -> None:
        self.place, self.device, self.seconds = place, device, seconds
        self._other, self._tag = 1 - place, 0
        try:
            self._group = _group(folder, place, device, seconds)
        except RuntimeError as error:
            raise TransferError(_first_line(error)) from error
        self.swap(torch.zeros(1, device=device))()  # a group of gloo may be made before the other place has read the folder

    def swap(self, own: Tensor) -> Callable[[], Tensor]:
        received = torch.empty_like(own)
        first, second = (self._send, self._receive) if self.place == 0 else (self._receive, self._send)
        tag = self._next_tag()
        works = [move(own if move == self._send else received, tag) for move in (first, second)]

        def wait() -> Tensor:
            for work in works:
                self._wait(work)
            return received

        return wait

    def send(self, value: Tensor) -> None:
        """To the other place, which receives it with `receive` in the same order."""
        self._wait(self._send(value.contiguous(), self._next_tag()))

    def receive(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        value = torch.empty(shape, dtype=dtype, device=self.device)
        self._wait(self._receive(value, self._next_tag()))
        return value

    def _next_tag(self) -> int:
        self._tag = (self._tag + 1) % 2**30
        return self._tag

    def _send(self, value: Tensor, tag: int) -> Any:
        return self._begun(lambda: self._group.send([value], self._other, tag))

    def _receive(self, value: Tensor, tag: int) -> Any:
        return self._begun(lambda: self._group.recv([value], self._other, tag))

    def _begun(self, begin: Callable[[], Any]) -> Any:
        try:
            return begin()
        except RuntimeError as error:
            raise TransferError(_first_line(error)) from error

    def _wait(self, work: Any) -> None:
        try:
            if self.device.type == "cpu":
                work.wait(timedelta(seconds=self.seconds))
                return
            until = time.monotonic() + self.seconds
            while not work.is_completed():
                if time.monotonic() > until:
                    raise TransferError(f"no answer within {self.seconds:g} s")
                time.sleep(POLL)
            work.wait()
        except TransferError:
            raise
        except RuntimeError as error:
            raise TransferError(_first_line(error)) from error


def _group(folder: Path, place: int, device: torch.device, seconds: float) -> Any:
    """A group of two that meets by a file. gloo listens on this machine's own interface alone."""
    dist: Any = distributed  # its process groups are not in its type information
    store = dist.FileStore(str(folder / "meeting"), 2)
    store.set_timeout(timedelta(seconds=seconds))
    if device.type == "cuda":
        torch.cuda.set_device(device)
        return dist.ProcessGroupNCCL(store, place, 2)
    options = dist.ProcessGroupGloo._Options()
    options._timeout = timedelta(seconds=seconds)
    options._devices = [dist.ProcessGroupGloo.create_device(hostname="127.0.0.1")]
    return dist.ProcessGroupGloo(store, place, 2, options)


def _first_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
