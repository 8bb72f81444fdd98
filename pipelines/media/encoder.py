"""Encoders that write pictures at their times: MP4, WebM, GIF, APNG and WebP, through PyAV."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from pipelines.media.clip import FAILURES, address, reason
from pipelines.media.sound import Sound
from pipelines.media.values import MediaError
from pipelines.values.types import Pixels

BT709 = 1  # of the matrix in H.273


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of file: FFmpeg's muxer and encoder, their pixel format and options, and the unit of time in seconds."""

    muxer: str
    codec: str
    pixels: str
    unit: Fraction
    options: dict[str, str] = field(default_factory=dict)
    shortest: Fraction = Fraction(0)  # a picture that is shown for less is left out


# Without B-frames: MP4 gives times in the order of decoding, and would lose how long the last picture is shown.
MP4 = Form("mp4", "libx264", "yuv420p", Fraction(1, 120_000), {"preset": "veryfast", "crf": "18", "bf": "0"})
WEBM_OPTIONS = {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"}
WEBM = Form("webm", "libvpx-vp9", "yuv420p", Fraction(1, 1000), WEBM_OPTIONS)
GIF = Form("gif", "gif", "pal8", Fraction(1, 100), shortest=Fraction(2, 100))
APNG = Form("apng", "apng", "rgb24", Fraction(1, 1000))
WEBP = Form("webp", "libwebp_anim", "bgra", Fraction(1, 1000), {"quality": "90"})


class ClipWriter:
    """H.264 in MP4 or VP9 in WebM, tagged BT.709, with sound if there is one. Raises MediaError if it cannot be written.

    Every browser plays H.264 in MP4 with yuv420p and the index in front. OpenCV's wheel cannot write it. sound: what became of
    it.
    """

    def __init__(self, path: Path, fps: float, width: int, height: int, form: Form = MP4, sound: Sound | None = None) -> None:
        self.path, self.form, self.notes = path, form, list[str]()
        self._step, self._next, self._last = Fraction(1 / fps).limit_denominator(120_000), Fraction(0), -1
        options = {"movflags": "+faststart"} if form.muxer == "mp4" else {}
        try:
            self._container = av.open(address(path), "w", format=form.muxer, options=options)
        except FAILURES as error:
            raise MediaError(f"{path}: cannot be written ({reason(error)})") from error
        self._stream: Any = self._container.add_stream(form.codec, rate=Fraction(fps).limit_denominator(1001))
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, form.pixels
        self._stream.options = dict(form.options)
        context = self._stream.codec_context
        context.time_base = form.unit
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        context.colorspace, context.color_range = BT709, ColorRange.MPEG
        self._durations: dict[int, int] = {}  # by pts, of frames inside the encoder
        self._sound = sound
        self.sound = None if sound is None else sound.add_to(self._container, form.muxer)

    def write(self, pixels: Pixels, at: Fraction | None = None, until: Fraction | None = None) -> None:
        """A picture and when it is shown, in seconds; by default after the one before, for one interval of `fps`."""
        begin = self._next if at is None else at
        self._next = begin + self._step if until is None else until
        delay = Fraction(0) if self._sound is None else self._sound.delay
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame: Any = picture.reformat(format=self.form.pixels, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        frame.color_primaries, frame.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        frame.colorspace, frame.color_range = BT709, ColorRange.MPEG
        frame.time_base, frame.pts = self.form.unit, max(self._last + 1, round((begin + delay) / self.form.unit))
        frame.duration = max(1, round((self._next + delay) / self.form.unit) - frame.pts)
        self._last, self._durations[frame.pts] = frame.pts, frame.duration
        self._mux(self._stream.encode(frame))
        if self._sound is not None:
            self._mux(self._sound.packets(begin + delay))

    def close(self) -> None:
        """Ends the file. Raises MediaError if it cannot be written."""
        try:
            self._mux(self._stream.encode(None))
            if self._sound is not None:
                self._mux(self._sound.packets(None))
        finally:
            if self._sound is not None:
                self._sound.close()
            try:
                self._container.close()
            except FAILURES as error:
                raise MediaError(f"{self.path}: cannot be written ({reason(error)})") from error

    def _mux(self, packets: Any) -> None:
        try:
            for packet in packets:
                if packet.stream is self._stream and packet.pts in self._durations:
                    packet.duration = self._durations.pop(packet.pts)
                self._container.mux(packet)
        except FAILURES as error:
            raise MediaError(f"{self.path}: cannot be written ({reason(error)})") from error


class AnimationWriter:
    """GIF, APNG or WebP. The encoded frames wait in memory, because the header holds how long the last one is shown."""

    sound: str | None = None

    def __init__(self, path: Path, fps: float, width: int, height: int, form: Form) -> None:
        self.path, self.form, self.notes = path, form, list[str]()
        self._step, self._next = Fraction(1 / fps).limit_denominator(120_000), Fraction(0)
        self._size = {"width": width, "height": height}
        self._encoder: Any = av.CodecContext.create(form.codec, "w")
        self._encoder.width, self._encoder.height, self._encoder.pix_fmt = width, height, form.pixels
        self._encoder.time_base, self._encoder.framerate = form.unit, Fraction(fps).limit_denominator(1001)
        self._encoder.options = dict(form.options)
        self._packets: list[Any] = []
        self._begun, self._left_out = -1, 0

    def write(self, pixels: Pixels, at: Fraction | None = None, until: Fraction | None = None) -> None:
        """As ClipWriter.write."""
        begin = self._next if at is None else at
        self._next = begin + self._step if until is None else until
        pts = round(begin / self.form.unit)
        if self._begun >= 0 and (pts - self._begun) * self.form.unit < max(self.form.shortest, self.form.unit):
            self._left_out += 1
            return
        frame = _palette(pixels) if self.form.pixels == "pal8" else _frame(pixels, self.form.pixels)
        frame.time_base, frame.pts, self._begun = self.form.unit, pts, pts
        self._packets += self._encoder.encode(frame)

    def close(self) -> None:
        if self._begun < 0:
            return
        last = max(1, round(self._next / self.form.unit) - self._begun)
        self._packets += self._encoder.encode(None)
        if self._left_out:
            self.notes.append(f"{self._left_out} pictures were shorter than this kind of file can show, and were left out")
        try:
            if self.form is WEBP:
                self.path.write_bytes(lasting(bytes(self._packets[0]), self._begun + last))
            else:
                self._mux({"final_delay": str(last)} if self.form is GIF else {"final_delay": f"{last}/1000", "plays": "0"})
        except FAILURES as error:
            raise MediaError(f"{self.path}: cannot be written ({reason(error)})") from error

    def _mux(self, options: dict[str, str]) -> None:
        with av.open(address(self.path), "w", format=self.form.muxer, options=options) as container:
            stream: Any = container.add_mux_stream(self.form.codec, pix_fmt=self.form.pixels, **self._size)
            stream.time_base = self.form.unit
            for packet in self._packets:
                packet.stream = stream
                container.mux(packet)


def lasting(webp: bytes, milliseconds: int) -> bytes:
    """An animated WebP that lasts so long: its last frame is shown until then. FFmpeg's encoder gives that frame the mean of the
    others. A WebP of one frame stays as it is."""
    place, last = 12, -1  # chunks follow the RIFF header: four letters, their size, data of an even length
    while place + 8 <= len(webp):
        size = struct.unpack_from("<I", webp, place + 4)[0]
        if webp[place : place + 4] == b"ANMF":
            if last >= 0:
                milliseconds -= int.from_bytes(webp[last : last + 3], "little")
            last = place + 20
        place += 8 + size + size % 2
    if last < 0:
        return webp
    return webp[:last] + max(1, min(milliseconds, 0xFFFFFF)).to_bytes(3, "little") + webp[last + 3 :]


def _frame(pixels: Pixels, form: str) -> Any:
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    return frame if form == "rgb24" else frame.reformat(format=form)


def _palette(pixels: Pixels) -> Any:
    """A frame with the 256 colours that suit it."""
    height, width = pixels.shape[:2]
    graph = av.filter.Graph()
    source = graph.add("buffer", f"width={width}:height={height}:pix_fmt=rgb24:time_base=1/100")
    split, colours = graph.add("split"), graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
    used, sink = graph.add("paletteuse", "new=1"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(colours, 0, 0)
    split.link_to(used, 1, 0)
    colours.link_to(used, 0, 1)
    used.link_to(sink)
    graph.configure()
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    frame.pts = 0
    graph.vpush(frame)
    graph.vpush(None)
    return graph.vpull()
