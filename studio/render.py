"""File to file, no server: a picture or a clip through the engine, every source frame answered in order."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pipelines import Entry, Frame, Output, Picture, Pixels, Settings, StageTimings, StreamPipeline, gate, media
from studio.summary import Summary


@dataclass(slots=True)
class Slot:
    """A source frame's place in the output: its own picture, or (repeat) the one before it."""

    frame_id: int
    picture: Picture | None = None
    repeat: bool = False


class OrderedOutput:
    """Writes one picture per source frame in source order, though the stream batch answers late."""

    def __init__(self, writer: media.Writer) -> None:
        self._writer = writer
        self._waiting: deque[Slot] = deque()
        self._last: Pixels | None = None

    def expect(self, frame_id: int) -> None:
        self._waiting.append(Slot(frame_id))

    def repeat(self, frame_id: int) -> None:
        """This frame shows the picture before it again."""
        for slot in self._waiting:
            if slot.frame_id == frame_id:
                slot.repeat = True
        self._flush()

    def deliver(self, frame_id: int, picture: Picture) -> None:
        for slot in self._waiting:
            if slot.frame_id == frame_id:
                slot.picture = picture
        self._flush()

    def _flush(self) -> None:
        while self._waiting and (self._waiting[0].repeat or self._waiting[0].picture is not None):
            slot = self._waiting.popleft()
            if slot.picture is not None:
                self._last = slot.picture.numpy()
            if self._last is not None:
                self._writer.write(self._last)


@dataclass(frozen=True, slots=True)
class Source:
    """Pictures with the rate at which they are to be shown, in frames per second; count 0 if the file does not say."""

    pictures: Iterator[Pixels]
    fps: float
    count: int


def open_source(path: Path, width: int, height: int) -> Source:
    """Raises MediaError when the file cannot be opened."""
    if media.is_picture(path):
        return Source(iter([media.read_picture(path, width, height)]), 1.0, 1)
    clip = media.ClipReader(path, width, height)
    return Source(iter(clip), clip.fps, clip.frames)


class Renderer:
    """One session fed from a file. The time of reading and writing files is not counted."""

    def __init__(self, pipeline: StreamPipeline, settings: Settings, output: OrderedOutput) -> None:
        self.pipeline = pipeline
        self.settings = settings
        self.output = output
        self.summary = Summary()
        self.wall_s = 0.0
        self._state = pipeline.open(settings)
        self._gate = gate.Gate(settings.seed)

    def feed(self, frame: Frame) -> None:
        """Gate, then one step; the answers go to the output."""
        self.summary.frames += 1
        self.output.expect(frame.id)
        start = time.perf_counter()
        if self.settings.gate.enabled and self._skips(frame):
            elapsed = time.perf_counter() - start
            self.wall_s += elapsed
            self.summary.add(Output(frame.id, self.settings.version, None, "skipped", StageTimings(gate=elapsed * 1000)))
            self.output.repeat(frame.id)
            return
        self._step(frame, start)

    def drain(self) -> None:
        """Bring home what is still in flight."""
        while self._state.in_flight:
            self._step(None, time.perf_counter())

    def _skips(self, frame: Frame) -> bool:
        if frame.pixels is None:
            return False
        return self._gate.ask(frame.pixels, self.settings.gate, self.settings.version).skip

    def _step(self, frame: Frame | None, start: float) -> None:
        (answer,) = self.pipeline.step([Entry(self._state, frame, self.settings)])
        self.wall_s += time.perf_counter() - start
        self.summary.add(answer)
        for lost in answer.superseded:
            self.output.repeat(lost)
        if answer.pixels is not None:
            self.output.deliver(answer.frame_id, answer.pixels)


def render(pipeline: StreamPipeline, settings: Settings, source_path: Path, target: Path) -> dict[str, Any]:
    """The whole file through the engine; returns the closing JSON object. Raises MediaError; what was made before a break is
    kept.
    """
    spec = pipeline.spec
    pipeline.prepare(settings)
    source = open_source(source_path, spec.width, spec.height)
    writer = media.open_writer(target, source.fps, spec.width, spec.height)
    renderer = Renderer(pipeline, settings, OrderedOutput(writer))
    try:
        with tqdm(total=source.count or None, unit="frame", disable=not sys.stderr.isatty()) as bar:
            for index, pixels in enumerate(source.pictures):
                renderer.feed(Frame(index, index / source.fps, np.ascontiguousarray(pixels)))
                bar.update()
        renderer.drain()
    finally:
        writer.close()
    if not renderer.summary.frames:
        raise media.MediaError(f"{source_path}: holds no picture")
    return renderer.summary.result(spec, settings.seed, renderer.wall_s)
