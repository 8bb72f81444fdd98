"""The sound of a clip into another: its packets as they are where the container takes them, else encoded anew."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from pipelines.media.clip import FAILURES, address, reason

COPIED = {
    "mp4": ("aac", "mp3", "mp3float", "ac3", "eac3", "alac", "opus", "libopus"),
    "webm": ("opus", "libopus", "vorbis", "libvorbis"),
}
ENCODED = {"mp4": "aac", "webm": "libopus"}
RATES = {"aac": 48_000, "libopus": 48_000}
EARLY = Fraction(1, 10)
"""Seconds: sound that begins earlier than the picture by less is the encoder's lead-in."""


class Sound:
    """The best sound track of a clip. start: the first picture's time in that file. None is its own `open` where it has none."""

    def __init__(self, path: Path, start: Fraction) -> None:
        self.path = path
        self._container = av.open(address(path))
        self._stream: Any = self._container.streams.best("audio")
        begins = (self._stream.start_time or 0) * self._stream.time_base
        self.zero = begins if begins < start - EARLY else start
        self.delay = start - self.zero
        self.codec = self._stream.codec_context.name
        self.tracks = len(self._container.streams.audio)
        self.damage: str | None = None

    @classmethod
    def of(cls, path: Path, start: Fraction) -> Sound | None:
        """None for a file without sound, or without one that can be decoded."""
        try:
            with av.open(address(path)) as container:
                if all(stream.codec_context is None for stream in container.streams.audio):
                    return None
            return cls(path, start)
        except FAILURES:
            return None

    def add_to(self, container: Any, kind: str) -> str:
        """Makes the track in a container of this kind, before its first packet. Returns what is done, for people."""
        if self.codec in COPIED[kind]:
            self._track = container.add_stream_from_template(self._stream)
            self._packets = self._copied()
            return "copied"
        name = ENCODED[kind]
        self._track = container.add_stream(name, rate=RATES[name], layout="stereo" if self._stream.channels > 1 else "mono")
        self._packets = self._encoded()
        return f"encoded as {name.removeprefix('lib')} ({self.codec} does not go into {kind})"

    def packets(self, until: Fraction | None) -> Iterator[Any]:
        """The packets up to this time of the output, in seconds; None for all that are left."""
        while (packet := self._next()) is not None:
            self._held = packet
            if until is not None and packet.pts is not None and packet.pts * packet.time_base > until:
                return
            self._held = None
            yield packet

    _held: Any = None

    def _next(self) -> Any:
        return self._held if self._held is not None else next(self._packets, None)

    def _demuxed(self) -> Iterator[Any]:
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    yield packet
        except FAILURES as error:
            self.damage = f"the sound cannot be read to its end: {reason(error)}"

    def _copied(self) -> Iterator[Any]:
        for packet in self._demuxed():
            offset = round(self.zero / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - offset
            packet.dts = None if packet.dts is None else packet.dts - offset
            packet.stream = self._track
            yield packet

    def _encoded(self) -> Iterator[Any]:
        context = self._track.codec_context
        resampler = av.AudioResampler(context.format, context.layout, context.sample_rate)
        base, lead = Fraction(1, context.sample_rate), None
        for frame in self._frames():
            for ready in resampler.resample(frame):
                if lead is None:
                    begins = Fraction(frame.time or 0).limit_denominator(10**6)
                    written = lead = round((begins - self.zero) / base)
                ready.pts, ready.time_base = written, base
                written += ready.samples
                yield from self._track.encode(ready)
        yield from self._track.encode(None)

    def _frames(self) -> Iterator[Any]:
        for packet in self._demuxed():
            try:
                yield from packet.decode()
            except FAILURES as error:
                self.damage = f"a part of the sound is broken: {reason(error)}"

    def close(self) -> None:
        self._container.close()
