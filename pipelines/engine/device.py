"""How pictures reach the device and leave it, and which stages of a step run beside each other. The engine uses the interface
and no device.

On a CPU (`HostTransfer`) nothing moves. On CUDA (`CudaTransfer`) a picture goes up, is encoded, denoised, decoded and comes down
on five streams, tied by events, so while one step's rows are in the UNet the next one's pictures are encoded and the last one's
decoded: at one row none of the three fills a large GPU. The host launches a step and goes on. It waits for one thing only, the
event of an older step's output, which keeps it at most DEPTH steps ahead.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from pipelines.techniques.noise import on_host
from pipelines.values.types import GpuPath, HostPicture, Picture, Pixels, StageTimings

LANES = ("encode", "denoise", "decode")

DEPTH = 2
"""Steps on the device at a time: one that runs, one that waits behind it. More would only let frames grow old in the queue."""

BUFFERS = 2
"""Pinned buffers for pictures on their way up: one is written by the host while the other is read by the device."""


ReadNumber = Callable[[Tensor], Callable[[], float]]
"""Starts the way of a number [] from there to the host; what it returns waits for it."""


def read_on_host(value: Tensor) -> Callable[[], float]:
    """ReadNumber, on a CPU."""
    number = float(value)
    return lambda: number


class Transfer(Protocol):
    """The device's side of a step. A step is `begin`, the lanes in the order of LANES, `end`; one thread at a time."""

    device: torch.device
    lag: int
    """Steps that were launched after the one whose milliseconds `end` gave last; -1 if none is over yet."""

    def begin(self) -> None:
        """A step starts."""
        ...

    def lane(self, name: str, *taken: Tensor) -> AbstractContextManager[None]:
        """What is launched inside belongs to this stage, and starts when the stage before it is over. taken: tensors that come
        from the stage before."""
        ...

    def upload(self, pictures: Sequence[Pixels]) -> Tensor:
        """Pictures of one size, uint8 [H, W, 3] each, as [B, H, W, 3] on the device. Inside lane("encode")."""
        ...

    def to_device(self, value: Tensor) -> Tensor:
        """A small tensor of the host's on the device, without waiting for it."""
        ...

    def read(self, value: Tensor) -> Callable[[], float]:
        """Start the way of a number [] to the host. What it returns waits for it, so call that with the next frame."""
        ...

    def download(self, pixels: Tensor) -> list[Picture]:
        """Pictures [B, H, W, 3] of the device as handles that are resolved later. Inside lane("decode")."""
        ...

    def end(self) -> StageTimings:
        """The step is launched. Milliseconds of its stages on a CPU; on CUDA of the newest step that is over, since this one is
        still running."""
        ...


class HostTransfer:
    """Everything is in host memory already, and every stage is over when its lane is left."""

    device = torch.device("cpu")
    lag = 0

    def __init__(self) -> None:
        self._spent = dict.fromkeys(LANES, 0.0)

    def begin(self) -> None:
        self._spent = dict.fromkeys(LANES, 0.0)

    @contextmanager
    def lane(self, name: str, *taken: Tensor) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._spent[name] += (time.perf_counter() - start) * 1000

    def upload(self, pictures: Sequence[Pixels]) -> Tensor:
        tensors = [torch.from_numpy(picture) for picture in pictures]
        return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)  # without the copy for a single one

    def to_device(self, value: Tensor) -> Tensor:
        return on_host(value)

    def read(self, value: Tensor) -> Callable[[], float]:
        return read_on_host(value)

    def download(self, pixels: Tensor) -> list[Picture]:
        return [HostPicture(picture.numpy()) for picture in pixels]

    def end(self) -> StageTimings:
        return StageTimings(**self._spent)


@dataclass(frozen=True, slots=True)
class DevicePicture:
    """A picture on its way into pinned memory. `host` goes back to torch's pool of such memory with its last reference."""

    host: Tensor
    arrived: Any

    def numpy(self) -> Pixels:
        self.arrived.synchronize()
        return self.host.numpy()


@dataclass(slots=True)
class PinnedBuffer:
    """A pinned buffer [N, H, W, 3], and the event after which it may be written again."""

    buffer: Tensor
    copied: Any


class UploadBuffers:
    """BUFFERS pinned buffers in turn. A buffer is handed out again when the copy out of it is over, which it long is unless the
    host is that many uploads ahead. A buffer grows with the number of pictures."""

    def __init__(self, make: Pin, event: Callable[[], Any], count: int = BUFFERS) -> None:
        self._make, self._event = make, event
        self._slots: deque[PinnedBuffer | None] = deque([None] * count)

    def take(self, shape: Sequence[int]) -> PinnedBuffer:
        """The next buffer, of this shape [B, H, W, 3] or with more rows."""
        slot = self._slots.popleft()
        if slot is not None:
            slot.copied.synchronize()
        if slot is None or slot.buffer.shape[0] < shape[0] or slot.buffer.shape[1:] != tuple(shape[1:]):
            slot = PinnedBuffer(self._make(shape), self._event())
        self._slots.append(slot)
        return slot


@dataclass(slots=True)
class Launched:
    """A step on its way through the device: timed events around each lane, the end of the last lane, the output's event."""

    marks: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    last: Any = None
    output: Any = None

    def over(self) -> bool:
        return all(event is None or event.query() for event in (self.last, self.output))

    def wait(self) -> None:
        for event in (self.last, self.output):
            if event is not None:
                event.synchronize()

    def timings(self) -> StageTimings:
        """Only when it is over."""
        return StageTimings(**{name: start.elapsed_time(end) for name, (start, end) in self.marks.items()})


Pin = Callable[..., Tensor]


def pinned(shape: Sequence[int], dtype: torch.dtype = torch.uint8) -> Tensor:
    """Memory of the host that a device copies to and from without staging, out of torch's pool of it."""
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)


class CudaTransfer:
    """Streams, events and pinned memory of one CUDA device.

    path.overlap off: one stream for everything. path.pinned off: pageable memory and blocking copies. cuda, pin: torch.cuda and
    what allocates pinned memory; tests put stand-ins there.
    """

    def __init__(
        self,
        device: torch.device,
        path: GpuPath,
        cuda: Any = torch.cuda,
        pin: Pin = pinned,
    ) -> None:
        self.device = device
        self._path, self._cuda, self._pin = path, cuda, pin
        names = ("up", *LANES, "down")
        self._streams = (
            {name: cuda.Stream(device) for name in names} if path.overlap else dict.fromkeys(names, cuda.Stream(device))
        )
        self._buffers = UploadBuffers(pin, cuda.Event)
        self._steps: deque[Launched] = deque()
        self._step = Launched()
        self._timings = StageTimings()
        self.lag = -1

    def begin(self) -> None:
        self._step = Launched()

    @contextmanager
    def lane(self, name: str, *taken: Tensor) -> Iterator[None]:
        stream, step = self._streams[name], self._step
        with self._cuda.stream(stream):
            if step.last is not None:
                stream.wait_event(step.last)
            for value in taken:
                value.record_stream(stream)  # or its memory might be given away while this stream still reads it
            start = self._mark(stream)
            yield
            step.last = self._mark(stream)
            step.marks[name] = (start, step.last)

    def upload(self, pictures: Sequence[Pixels]) -> Tensor:
        if not self._path.pinned:
            return HostTransfer().upload(pictures).to(self.device)
        slot = self._buffers.take((len(pictures), *pictures[0].shape))
        for row, picture in zip(slot.buffer, pictures, strict=False):
            row.numpy()[:] = picture
        up, encode = self._streams["up"], self._streams["encode"]
        with self._cuda.stream(up):
            pixels = slot.buffer[: len(pictures)].to(self.device, non_blocking=True)
            slot.copied.record(up)
        encode.wait_event(slot.copied)
        pixels.record_stream(encode)
        return pixels

    def to_device(self, value: Tensor) -> Tensor:
        # Out of pageable memory CUDA stages the copy before it returns, so the tensor may go at once; without non_blocking torch
        # would wait for the stream as well.
        return value.to(self.device, non_blocking=True)

    def read(self, value: Tensor) -> Callable[[], float]:
        host, arrived = self._pin((), value.dtype), self._cuda.Event()
        host.copy_(value, non_blocking=True)
        arrived.record()

        def number() -> float:
            arrived.synchronize()
            return float(host)

        return number

    def download(self, pixels: Tensor) -> list[Picture]:
        if not self._path.pinned:
            return [HostPicture(picture.cpu().numpy()) for picture in pixels]
        decode, down = self._streams["decode"], self._streams["down"]
        decoded, arrived = self._cuda.Event(), self._cuda.Event(blocking=True)  # blocking: who waits for it sleeps
        decoded.record(decode)
        host = self._pin(pixels.shape)
        with self._cuda.stream(down):
            down.wait_event(decoded)
            host.copy_(pixels, non_blocking=True)
            arrived.record(down)
        pixels.record_stream(down)
        self._step.output = arrived
        return [DevicePicture(picture, arrived) for picture in host]

    def end(self) -> StageTimings:
        self._steps.append(self._step)
        while self._steps and (len(self._steps) >= DEPTH or self._steps[0].over()):
            oldest = self._steps.popleft()
            oldest.wait()
            self._timings = oldest.timings()
            self.lag = 0
        if self.lag >= 0:
            self.lag = len(self._steps)
        return self._timings

    def _mark(self, stream: Any) -> Any:
        event = self._cuda.Event(enable_timing=True)
        event.record(stream)
        return event


def of(device: torch.device, path: GpuPath) -> Transfer:
    """The transfer of a device."""
    return CudaTransfer(device, path) if device.type == "cuda" else HostTransfer()
