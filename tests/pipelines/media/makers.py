"""Small files of the kinds that people bring, made by PyAV and Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipelines import Pixels

RED, GREEN, BLUE, YELLOW = (200, 40, 40), (40, 180, 40), (40, 60, 200), (220, 210, 60)


def quarters(width: int, height: int) -> Pixels:
    """Red and green above, blue and yellow below."""
    picture = np.zeros((height, width, 3), np.uint8)
    for (row, column), colour in zip(((0, 0), (0, 1), (1, 0), (1, 1)), (RED, GREEN, BLUE, YELLOW), strict=True):
        picture[row * height // 2 : (row + 1) * height // 2, column * width // 2 : (column + 1) * width // 2] = colour
    return picture


def corners(picture: Pixels) -> list[tuple[int, ...]]:
    """The colours of the four quarters, in reading order."""
    height, width = picture.shape[:2]
    return [tuple(picture[y, x].tolist()) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]


def near(found: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]], by: int = 8) -> bool:
    return bool(np.abs(np.array(found, int) - np.array(wanted, int)).max() <= by)


def flat(level: int, width: int = 64, height: int = 64) -> Pixels:
    return np.full((height, width, 3), level, np.uint8)


def clip(
    path: Path,
    frames: Sequence[Any],
    times: Sequence[float] | None = None,
    *,
    form: str = "mp4",
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    rotation: tuple[float, bool, bool] | None = None,
    aspect: Fraction | None = None,
    tags: tuple[int, int, int, int] | None = None,
    sound: str | None = None,
    sound_s: float = 1.0,
) -> Path:
    """frames: uint8 arrays [H, W, 3 or 4], or frames of PyAV; times: in seconds, 25 a second without; rotation: degrees,
    mirrored, upside down; tags: primaries, transfer, matrix, range of H.273."""
    with av.open(f"file:{path}", "w", format=form, options=container or {}) as out:
        stream: Any = out.add_stream(codec, rate=25, options=options or {})
        first = frames[0]
        height, width = (first.height, first.width) if isinstance(first, av.VideoFrame) else first.shape[:2]
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.time_base = Fraction(1, 1000)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation is not None:
            stream.set_display_rotation(rotation[0], hflip=rotation[1], vflip=rotation[2])
        if tags is not None:
            context = stream.codec_context
            context.color_primaries, context.color_trc, context.colorspace, context.color_range = tags
        track = out.add_stream(sound, rate=48_000, layout="mono") if sound else None
        for index, picture in enumerate(frames):
            frame = picture
            if not isinstance(frame, av.VideoFrame):
                frame = av.VideoFrame.from_ndarray(picture, format="rgba" if picture.shape[2] == 4 else "rgb24")
                frame = frame.reformat(format=pixels)
            if tags is not None:
                frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = tags
            frame.time_base, frame.pts = Fraction(1, 1000), round(1000 * (times[index] if times else index / 25))
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if track is not None:
            for start in range(0, int(48_000 * sound_s), 960):
                wave = np.sin(np.arange(start, start + 960) / 200).astype(np.float32)[None] / 2
                samples = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
                samples.sample_rate, samples.pts, samples.time_base = 48_000, start, Fraction(1, 48_000)
                out.mux(track.encode(samples))
            out.mux(track.encode(None))
    return path


def codes_of(colours: Sequence[tuple[int, int, int]], transfer: int) -> np.ndarray:
    """BT.709 colours (gamma 2.4; white is 203 cd/m2) as codes 0..1 in BT.2020 with PQ (16), HLG (18) or SDR (14): [n, 3]."""
    linear = (np.array(colours) / 255) ** 2.4
    wide = linear @ np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]).T
    if transfer == 16:
        y = (wide * 203 / 10_000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375
    elif transfer == 18:
        scene = wide * (203 / 1000) / np.maximum((wide @ [0.2627, 0.678, 0.0593] * 203 / 1000), 1e-6)[:, None] ** (0.2 / 1.2)
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)
    return wide ** (1 / 2.4)


def encoded(colours: Sequence[tuple[int, int, int]], transfer: int, width: int = 128, height: int = 64) -> av.VideoFrame:
    """Bars of these colours as a frame of 10 bits (codes_of)."""
    red, green, blue = codes_of(colours, transfer).T
    luma = 0.2627 * red + 0.678 * green + 0.0593 * blue
    planes = (64 + 876 * luma, 512 + 896 * (blue - luma) / 1.8814, 512 + 896 * (red - luma) / 1.4746)
    frame = av.VideoFrame(width, height, "yuv420p10le")
    for plane, values in zip(frame.planes, planes, strict=True):
        bars = np.repeat(np.rint(values).astype(np.uint16), plane.width // len(colours))
        row = np.zeros(plane.line_size // 2, np.uint16)
        row[: len(bars)] = bars
        plane.update(np.tile(row, (plane.height, 1)).tobytes())
    return frame
