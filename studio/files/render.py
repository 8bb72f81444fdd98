"""File to file, no server: a picture or a clip through the engine, every source frame answered in order."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipelines import (
    MAX_STYLE_BYTES,
    Entry,
    Frame,
    Output,
    Picture,
    PictureStyle,
    Pixels,
    Settings,
    StageTimings,
    StreamPipeline,
    gate,
    is_style,
    media,
    read_style,
)
from studio.files.exchange import Exchange, FileOptions
from studio.files.recording import Digest, Recording, RecordingError, TimelineEntry
from studio.files.summary import Summary
from studio.pictures.codec import PROMPT_SIDE, decode_mask, decode_prompt, encode, encode_mask, prompt_format
from studio.wire.limits import Limits
from studio.wire.protocol import PictureEncoding


@dataclass(slots=True)
class PendingPicture:
    """A source frame's place in the output: its own picture, or (repeat) the one before it. at, until: its time in seconds; None
    where the output gives each frame the same."""

    frame_id: int
    at: Fraction | None
    until: Fraction | None
    picture: Picture | None = None
    repeat: bool = False


class OrderedWriter:
    """Writes one picture per source frame in source order, although the stream batch returns pictures late."""

    def __init__(self, writer: media.Writer, digest: Digest | None = None) -> None:
        self._writer = writer
        self._digest = digest
        self._waiting: deque[PendingPicture] = deque()
        self._last: Pixels | None = None

    def reserve(self, frame_id: int, at: Fraction | None = None, until: Fraction | None = None) -> None:
        """The next frame of the source, and when its picture is shown, in seconds."""
        self._waiting.append(PendingPicture(frame_id, at, until))

    def repeat(self, frame_id: int) -> None:
        """This frame shows the picture before it again."""
        for pending in self._waiting:
            if pending.frame_id == frame_id:
                pending.repeat = True
        self._flush()

    def deliver(self, frame_id: int, picture: Picture) -> None:
        for pending in self._waiting:
            if pending.frame_id == frame_id:
                pending.picture = picture
        self._flush()

    def _flush(self) -> None:
        while self._waiting and (self._waiting[0].repeat or self._waiting[0].picture is not None):
            pending = self._waiting.popleft()
            if pending.picture is not None:
                self._last = pending.picture.numpy()
            if self._last is not None:
                self._writer.write(self._last, pending.at, pending.until)
                if self._digest is not None:
                    self._digest.add(self._last)


class Renderer:
    """One session fed from a file. The time of reading and writing files is not counted.

    timeline: settings, masks and picture prompts, each before its frame. replayed: the gate's verdicts come from the timeline, no
    die is thrown.
    """

    def __init__(
        self,
        pipeline: StreamPipeline,
        settings: Settings,
        output: OrderedWriter,
        timeline: Iterable[TimelineEntry] = (),
        replayed: bool = False,
    ) -> None:
        self.pipeline = pipeline
        self.settings = settings
        self.output = output
        self.summary = Summary()
        self.moments: list[TimelineEntry] = []
        self.wall_s = 0.0
        self.applied = [settings]  # in the order of their frames
        self._timeline = {moment.frame: moment for moment in timeline}
        self._replayed = replayed
        self._state = pipeline.open(settings)
        self._gate = gate.Gate(settings.seed)

    def feed(self, frame: Frame, at: Fraction | None = None, until: Fraction | None = None) -> None:
        """Settings and mask of the moment, then the gate, then one step; the answers go to the output. at, until: when the
        picture is shown, in seconds."""
        planned = self._timeline.get(frame.id, TimelineEntry(frame.id))
        if planned.patch:
            self._change(planned.patch)
        if planned.mask is not None:
            self._state.set_mask(decode_mask(planned.mask, Limits()) if planned.mask else None)
            self._gate.forget()
        for picture, second in ((planned.picture, False), (planned.picture_b, True)):
            if picture is not None:
                self._state.set_picture(self._picture(picture) if picture else None, second)
                self._gate.forget()
        self.summary.frames += 1
        self.output.reserve(frame.id, at, until)
        start = time.perf_counter()
        skipped = planned.skipped if self._replayed else self._skips(frame)
        if planned.patch or skipped or planned.given:
            self.moments.append(replace(planned, skipped=skipped))
        if not skipped:
            return self._step(frame, start)
        elapsed = time.perf_counter() - start
        self.wall_s += elapsed
        self.summary.add(Output(frame.id, self.settings.version, None, "skipped", StageTimings(gate=elapsed * 1000)))
        self.output.repeat(frame.id)

    def drain(self) -> None:
        """Process what is still in flight."""
        while self._state.in_flight:
            self._step(None, time.perf_counter())

    def _change(self, patch: dict[str, Any]) -> None:
        settings = self.settings.patched(patch)
        self.pipeline.check(settings)
        self.pipeline.prepare(settings, pictured=pictured(self._timeline.values()))
        self.settings = settings
        self.applied.append(settings)

    def _picture(self, data: bytes) -> Pixels | PictureStyle:
        """Raises ModelError for a style that is not for this model."""
        picture = decode_prompt(data, prompt_format(data), Limits())
        if isinstance(picture, PictureStyle):
            self.pipeline.pictures.check(picture)
        return picture

    def _skips(self, frame: Frame) -> bool:
        return self.settings.gate.enabled and self._gate.decide(frame.pixels, self.settings.gate, self.settings.version).skip

    def _step(self, frame: Frame | None, start: float) -> None:
        (answer,) = self.pipeline.step([Entry(self._state, frame, self.settings)])
        self.wall_s += time.perf_counter() - start
        self.summary.add(answer)
        for lost in answer.superseded:
            self.output.repeat(lost)
        if answer.pixels is not None:
            self.output.deliver(answer.frame_id, answer.pixels)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a render does beside its files: settings at the start, changes on the way, a record to follow.

    mask: a picture of the painted strength map (mode "mask") that holds from the first frame on; white is full strength.
    picture, picture_b: the picture prompts that hold from the first frame on. files: how the input is read and what of it goes
    along.
    """

    settings: Settings
    timeline: tuple[TimelineEntry, ...] = ()
    mask: Path | None = None
    replay: Recording | None = None
    picture: Path | None = None
    picture_b: Path | None = None
    files: FileOptions = field(default_factory=FileOptions)


def pictured(timeline: Iterable[TimelineEntry]) -> bool:
    """Whether a timeline has a picture prompt."""
    return any(moment.picture or moment.picture_b for moment in timeline)


def render(pipeline: StreamPipeline, plan: Plan, source_path: Path, target: Path) -> tuple[dict[str, Any], Recording]:
    """The whole file through the engine: the closing JSON object, and the record that makes the same bytes again.

    Raises MediaError (what was made before it is kept), SettingsError for a timeline the model cannot do, RecordingError if a
    replay does not give the recorded bytes.
    """
    spec = pipeline.spec
    timeline = plan.timeline
    seen = plan.picture is not None or plan.picture_b is not None or pictured(timeline)
    pipeline.prepare(plan.settings, pictured=seen)
    if plan.mask is not None:
        timeline = beginning(timeline, mask=encode_mask(read_mask(plan.mask, spec.width, spec.height)))
    if plan.picture is not None:
        timeline = beginning(timeline, picture=read_prompt(plan.picture))
    if plan.picture_b is not None:
        timeline = beginning(timeline, picture_b=read_prompt(plan.picture_b))
    files = Exchange(source_path, target, spec.width, spec.height, plan.files)
    read, shown = Digest(), Digest()
    renderer = Renderer(pipeline, plan.settings, OrderedWriter(files.writer, shown), timeline, plan.replay is not None)
    try:
        with tqdm(total=files.source.count or None, unit="frame", disable=not sys.stderr.isatty()) as bar:
            for index, picture in enumerate(files.source.pictures):
                read.add(picture.pixels)
                renderer.feed(Frame(index, float(picture.at), picture.pixels), picture.at, picture.until)
                bar.update()
        renderer.drain()
    finally:
        files.close()
    if not renderer.summary.frames:
        raise media.MediaError(f"{source_path}: holds no picture")
    moments, frames = tuple(renderer.moments), renderer.summary.frames
    made = Recording(spec, plan.settings, moments, frames, read.text(), shown.text(), plan.files)
    if plan.replay is not None:
        _compare(plan.replay, made)
    result = renderer.summary.result(spec, plan.settings.seed, renderer.wall_s)
    loras = {"loras": pipeline.loras} if pipeline.loras else {}
    return result | files.facts() | loras | understood(pipeline, renderer.applied), made


def understood(pipeline: StreamPipeline, applied: Iterable[Settings]) -> dict[str, list[dict[str, object]]]:
    """What all prompts of these settings were taken for, each once, as in docs/protocol-messages.md."""
    lists: dict[str, list[dict[str, object]]] = {}
    for settings in applied:
        for name, entries in pipeline.understood(settings).listed().items():
            known = lists.setdefault(name, [])
            known += [entry for entry in entries if entry not in known]
    return lists


def read_mask(path: Path, width: int, height: int) -> Pixels:
    """A painted strength map, uint8 [height, width, 3]. Nothing is changed where it is transparent. Raises MediaError."""
    return media.read_picture(path, width, height, media.ReadOptions(background=(0, 0, 0)))


def read_prompt(path: Path) -> bytes:
    """A picture prompt's file as a record keeps it: a style as it is, a picture's middle as PNG. Raises MediaError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_STYLE_BYTES + 1)
    except OSError as error:
        raise media.MediaError(f"{path}: cannot be read ({error.strerror or error})") from error
    if is_style(data):
        read_style(data, path.name)
        return data
    return encode(media.read_picture(path, PROMPT_SIDE, PROMPT_SIDE), PictureEncoding("png"))


def beginning(timeline: tuple[TimelineEntry, ...], **pngs: bytes) -> tuple[TimelineEntry, ...]:
    """The timeline with this mask or picture prompt from frame 0 on, until it has another one."""
    first = next((moment for moment in timeline if moment.frame == 0), TimelineEntry(0))
    given = {name: png for name, png in pngs.items() if getattr(first, name) is None}
    return (replace(first, **given), *(moment for moment in timeline if moment.frame))  # type: ignore[arg-type]


def _compare(recorded: Recording, made: Recording) -> None:
    if made.source != recorded.source:
        raise RecordingError("the input is not the one that was recorded")
    if made.digest != recorded.digest:
        raise RecordingError("the pictures differ from the recorded ones: another machine, thread count, version or model")
