"""The part of torch.cuda that the engine uses, without a device: streams and events that record all waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Event:
    """An event. It is complete when a test sets `over`, or after a wait for it."""

    def __init__(self, cuda: FakeCuda, **options: Any) -> None:
        self.cuda, self.options = cuda, options
        self.over = False
        self.at: tuple[int, int] | None = None  # stream, position in it
        self.seen: dict[int, int] = {}
        cuda.events.append(self)

    def record(self, stream: Stream | None = None) -> None:
        stream = stream or self.cuda.present
        self.at, self.over = stream.advance(), False
        self.seen = dict(stream.reached)

    def query(self) -> bool:
        return self.over

    def synchronize(self) -> None:
        self.cuda.waited.append(self)
        for event in self.cuda.events:  # all earlier events are complete too
            if event.at is not None and self.seen.get(event.at[0], 0) >= event.at[1]:
                event.over = True

    def elapsed_time(self, end: Event) -> float:
        assert self.options["enable_timing"] and end.options["enable_timing"] and end.over
        return 1.0


class Stream:
    """A stream with a vector clock: for each other stream, the position that its own work comes after."""

    def __init__(self, cuda: FakeCuda, number: int) -> None:
        self.cuda, self.number = cuda, number
        self.reached: dict[int, int] = {number: 0}

    def advance(self) -> tuple[int, int]:
        self.reached[self.number] += 1
        return self.number, self.reached[self.number]

    def wait_event(self, event: Event) -> None:
        for number, place in event.seen.items():
            self.reached[number] = max(self.reached.get(number, 0), place)

    def wait_stream(self, other: Stream) -> None:
        for number, place in other.reached.items():
            self.reached[number] = max(self.reached.get(number, 0), place)

    def after(self, event: Event) -> bool:
        """Whether work that is launched here from now on comes after the event."""
        assert event.at is not None
        number, place = event.at
        return self.reached.get(number, 0) >= place


class CUDAGraph:
    def __init__(self) -> None:
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1


class FakeCuda:
    """A replacement for the module torch.cuda. waited: the events that the host waited for."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.waited: list[Event] = []
        self.events: list[Event] = []
        self.present = self.Stream()
        self.recorded: list[dict[str, Any]] = []
        self.synchronized = 0
        self.CUDAGraph = CUDAGraph

    def Stream(self, device: torch.device | None = None) -> Stream:
        self.streams.append(Stream(self, len(self.streams)))
        return self.streams[-1]

    def Event(self, **options: Any) -> Event:
        return Event(self, **options)

    def current_stream(self, device: torch.device | None = None) -> Stream:
        return self.present

    def synchronize(self, device: torch.device | None = None) -> None:
        self.synchronized += 1

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        yield

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.present = self.present, stream
        yield
        self.present = before

    @contextmanager
    def graph(self, graph: CUDAGraph, **options: Any) -> Iterator[None]:
        self.recorded.append(options)
        with self.stream(options["stream"]):
            yield
