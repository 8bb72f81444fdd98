"""Clips through PyAV: the best video stream, all frames that can be decoded, as a player shows them."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.stream import Disposition
from PIL import Image

from pipelines.media.colour import over
from pipelines.media.damage import ogg_ends, what_it_is
from pipelines.media.fitting import fit, placed, placement
from pipelines.media.graph import FrameKind, Graph, has_alpha, kind_of
from pipelines.media.timing import Stamped, timed
from pipelines.media.values import AS_IT_IS, MediaError, ReadOptions, TimedPicture
from pipelines.values.types import Pixels

FAILURES = (av.error.FFmpegError, OSError, ValueError)
"""What FFmpeg and the system raise for files."""

ALPHA_DECODERS = {"vp9": "libvpx-vp9", "vp8": "libvpx"}  # FFmpeg's own decoders of these leave the alpha away
STILL_CODECS = ("mjpeg", "png", "apng", "bmp", "gif", "tiff", "webp")
MAX_SIDE = 16_384
MIN_CUT = Fraction(1, 10)
MAX_CUT = Fraction(1, 2)
"""Seconds by which a clip with sound may end before its declared duration: the sound is often a little longer."""

ESTIMATED = ("mpegts", "mpeg", "h264", "hevc", "m4v", "mpegvideo", "ivf")  # kinds without a declared duration

CUT_WORDS = ("prematurely", "partial file")  # in FFmpeg's log where a file ends in the middle of a packet


av.logging.set_skip_repeated(False)


@contextlib.contextmanager
def heard() -> Iterator[list[tuple[int, str, str]]]:
    """FFmpeg's errors of the enclosed calls of this thread. Not across a `yield`, and not for good: with its log open, threads of
    a decoder would wait for Python."""
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as messages:
            yield messages
    finally:
        av.logging.set_level(None)


def address(path: Path) -> str:
    """A path as FFmpeg takes it: a colon in it begins no protocol, and a percent sign no numbered sequence."""
    return f"file:{path.absolute()}"


class ClipReader:
    """A clip's pictures in order, each uint8 [height, width, 3]. fps, frames: from the file; frames is 0 if the file lacks it.

    Iterate inside `with`. The constructor raises MediaError for a file that is not a clip, and the iteration for one without a
    readable picture. What is broken after that is left out; `damage` then describes it. notes: what else was left out.
    """

    def __init__(self, path: Path, width: int, height: int, options: ReadOptions = AS_IT_IS) -> None:
        self.path, self.width, self.height, self.options = path, width, height, options
        self.notes: list[str] = []
        self.damage: str | None = None
        try:
            with heard():  # the error then holds FFmpeg's own words
                self._container = av.open(address(path))
        except FileNotFoundError:
            raise MediaError(f"{path}: no such file") from None
        except FAILURES as error:
            known = what_it_is(path) or f"is neither a readable picture nor a readable clip ({reason(error)})"
            raise MediaError(f"{path}: {known}") from error
        try:
            self._stream = self._best()
        except MediaError:
            self._container.close()
            raise
        self._stream.thread_type = "SLICE"  # with a thread for each frame, a broken one takes whole ones with it
        self.fps = float(self._stream.average_rate or self._stream.guessed_rate or 25)
        self.frames = int(self._stream.frames or 0)
        self._start: Fraction | None = None
        self._graph: Graph | None = None
        self._kind: FrameKind | None = None

    @property
    def start(self) -> Fraction:
        """The first picture's time in the file, in seconds; as far as it is known before the first picture is read."""
        if self._start is None:
            return (self._stream.start_time or 0) * (self._stream.time_base or Fraction(0))
        return self._start

    def __iter__(self) -> Iterator[Pixels]:
        return (picture.pixels for picture in self.timed())

    def timed(self) -> Iterator[TimedPicture]:
        """The pictures with their times."""
        last: TimedPicture | None = None
        for picture in timed(self._stamped(), Fraction(1 / self.fps).limit_denominator(120_000)):
            if last is not None:
                yield last
            last = picture
        if last is not None:
            yield replace(last, until=last.until + self._lacking(last.until))

    def _best(self) -> Any:
        """The largest video stream that is no cover picture."""
        found = self._container.streams.video
        moving = [stream for stream in found if not stream.disposition & Disposition.attached_pic]
        if not moving:
            raise MediaError(f"{self.path}: {what_it_is(self.path) or 'contains no video stream'}")
        moving = [stream for stream in moving if stream.codec_context is not None and stream.width > 0]
        if not moving:
            raise MediaError(f"{self.path}: {what_it_is(self.path) or 'there is no decoder for its video'}")
        best = max(moving, key=_rank)
        if len(moving) > 1:
            self.notes.append(f"of {len(moving)} video streams the largest is used, {best.width}x{best.height}")
        return best

    # Decoding.

    def _stamped(self) -> Iterator[Stamped]:
        times: deque[tuple[Fraction | None, Fraction | None]] = deque()
        shown = 0
        for frame in self._decoded():
            base = frame.time_base or self._stream.time_base or Fraction(1, 1000)
            at = None if frame.pts is None else frame.pts * base
            if self._start is None:
                self._start = at or Fraction(0)
            times.append((at, frame.duration * base if frame.duration else None))
            try:
                ready = self._pictures(frame)
            except FAILURES as error:  # a header that is broken: the frames inside of the graph go with it
                self._graph = self._kind = None
                times.clear()
                self.damage = f"it has frames that cannot be shown ({reason(error)})"
                continue
            for pixels in ready:
                shown += 1
                yield pixels, *times.popleft()
        if self._graph is not None:
            for pixels in self._finished(self._graph.take(None)):
                shown += 1
                yield pixels, *times.popleft()
        if not shown:
            raise MediaError(f"{self.path}: holds no picture that can be decoded" + (f" ({self.damage})" if self.damage else ""))

    def _decoded(self) -> Iterator[Any]:
        """All frames that can be decoded. What is lost on the way is counted."""
        decoder, lost, packets, why = self._decoder(), 0, 0, ""
        patched = 0  # frames that a decoder has completed with parts of others, as the last one of a cut transport stream
        for packet in self._packets():
            packets += 1
            lost += packet.is_corrupt
            try:
                for frame in decoder.decode(packet):
                    patched += frame.is_corrupt
                    yield frame
            except FAILURES as error:
                lost, why = lost + (not packet.is_corrupt), f" ({reason(error)})"
        with contextlib.suppress(*FAILURES):  # after damage that is counted already
            for frame in decoder.decode(None):
                patched += frame.is_corrupt
                yield frame
        lost, promised = max(lost, patched), self._promised()
        if promised > packets:
            self.damage = f"it is cut off: {packets} of {promised} frames are there"
        elif lost and self.damage is None:
            self.damage = f"{lost} of {packets} frames are broken{why}"
        elif self._container.format.name == "ogg" and not ogg_ends(self.path):
            self.damage = "it is cut off"

    def _packets(self) -> Iterator[Any]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                with heard() as messages:
                    packet = next(packets, None)
            except FAILURES as error:
                self.damage = f"it cannot be read to its end ({reason(error)})"
                return
            if any(word in text for _, _, text in messages for word in CUT_WORDS):
                self.damage = "it is cut off"
            if packet is None:
                return
            if packet.size:
                yield packet

    def _promised(self) -> int:
        """Frames that the index of an MP4 holds; edit lists leave some of the file's out. 0 where the file has none."""
        return min(self.frames, len(self._stream.index_entries)) if "mov" in self._container.format.name else 0

    def _lacking(self, end: Fraction) -> Fraction:
        """Seconds from the end of the last picture until the declared end. In Matroska and WebM the last picture is shown until
        then; elsewhere the clip is cut off if it is much."""
        name, streams = self._container.format.name, self._container.streams
        if self.damage is not None or not self._container.duration or name in ESTIMATED:
            return Fraction(0)
        declared = Fraction(self._container.duration + (self._container.start_time or 0), 1_000_000) - self.start
        if name == "avi":  # its duration is made from the file's size
            declared = self.frames * (self._stream.time_base or Fraction(0))
        lacking = max(Fraction(0), declared - end)
        if "matroska" in name:
            return Fraction(0) if streams.audio else lacking
        most = MAX_CUT if streams.audio else max(MIN_CUT, 3 / Fraction(self.fps))
        if lacking > most and "mov" not in name:  # mov counts its frames
            self.damage = f"it is cut off: it ends {float(lacking):.1f} s before its declared end"
        return Fraction(0)

    def _decoder(self) -> Any:
        name = ALPHA_DECODERS.get(self._stream.codec_context.name)
        if name is None or self._stream.metadata.get("alpha_mode", self._stream.metadata.get("ALPHA_MODE")) != "1":
            return self._stream
        decoder = av.CodecContext.create(name, "r")
        decoder.extradata = self._stream.codec_context.extradata
        return decoder

    # From frame to picture.

    def _pictures(self, frame: Any) -> list[Pixels]:
        """What is ready after this frame. A frame of another kind ends the graph of those before."""
        kind = kind_of(frame, frame.interlaced_frame or (self._kind is not None and self._kind.interlaced))
        before: list[Pixels] = []
        if kind != self._kind:
            if max(frame.width, frame.height) > MAX_SIDE:
                raise MediaError(
                    f"{self.path}: {frame.width}x{frame.height} is too large; {MAX_SIDE} pixels on a side are allowed"
                )
            before = [] if self._graph is None else self._finished(self._graph.take(None))
            self._begin(frame, kind)
        assert self._graph is not None
        return before + self._finished(self._graph.take(frame))

    def _begin(self, frame: Any, kind: FrameKind) -> None:
        ratio = self._stream.sample_aspect_ratio or Fraction(1)
        aspect = Fraction(frame.width, frame.height) * (ratio if ratio > 0 else 1)
        self._kind, self._aspect = kind, 1 / aspect if kind.sideways else aspect
        self._place = placement(self._aspect, self.width, self.height, self.options.fit)
        size, self._alpha = (self._place.width, self._place.height), has_alpha(frame)
        if self._alpha:  # colours behind transparent pixels must not be mixed into others: scaled afterwards
            size = (frame.height, frame.width) if kind.sideways else (frame.width, frame.height)
        self._graph = Graph(kind, *size, "rgba" if self._alpha else "rgb24")

    def _finished(self, pictures: list[Pixels]) -> list[Pixels]:
        background = self.options.background
        if not self._alpha:
            return [placed(pixels, self._place, self.width, self.height, self.options.bars) for pixels in pictures]
        opaque = (Image.fromarray(over(pixels, background)) for pixels in pictures)
        return [fit(picture, self.width, self.height, self.options, self._aspect) for picture in opaque]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._container.close()


def _rank(stream: Any) -> tuple[bool, int, bool]:
    """The larger, the better; a picture in a stream of its own comes last."""
    still = stream.frames == 1 or stream.codec_context.name in STILL_CODECS
    return not still, stream.width * stream.height, bool(stream.disposition & Disposition.default)


def reason(error: BaseException) -> str:
    """What FFmpeg or the system gives as the cause, without the file's name."""
    return str(getattr(error, "strerror", None) or error)
