"""Reads and writes picture and clip files as uint8 pictures, with Pillow and PyAV.

Every browser plays H.264 in MP4 with yuv420p and the index in front. OpenCV's wheel cannot write it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import av
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipelines.values.types import Pixels, RillError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MAX_PICTURE = 64_000_000  # pixels; a picture with a larger header is refused before decoding


class MediaError(RillError):
    """A file cannot be read or written. The message names it."""


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES


def fit(picture: Image.Image, width: int, height: int) -> Pixels:
    """Scaled to cover width x height, cropped at the centre; uint8 [height, width, 3]."""
    resample = Image.Resampling.BICUBIC if picture.width < width or picture.height < height else Image.Resampling.BOX
    if picture.size == (width, height):
        return np.array(picture.convert("RGB"))
    return np.array(ImageOps.fit(picture.convert("RGB"), (width, height), resample))


def read_picture(path: Path, width: int, height: int) -> Pixels:
    """One picture file as uint8 [height, width, 3]. Raises MediaError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound below is tighter
            opened = Image.open(path)
        with opened as picture:
            if picture.width * picture.height > MAX_PICTURE:
                raise MediaError(
                    f"{path}: {picture.width}x{picture.height} is too large; {MAX_PICTURE // 10**6} megapixels are allowed"
                )
            return fit(ImageOps.exif_transpose(picture), width, height)
    except FileNotFoundError:
        raise MediaError(f"{path}: no such file") from None
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise MediaError(f"{path}: is not a readable picture ({error})") from error


class ClipReader:
    """A clip's pictures in order, each uint8 [height, width, 3]. fps, frames: from the file; frames is 0 if the file lacks it.

    Iterate inside `with`. The constructor raises MediaError for a file that is not a clip. The iteration raises it for a clip
    that is broken in the middle, after yielding the pictures before the break.
    """

    def __init__(self, path: Path, width: int, height: int) -> None:
        self.path, self.width, self.height = path, width, height
        try:
            self._container = av.open(str(path))
        except FileNotFoundError:
            raise MediaError(f"{path}: no such file") from None
        except (OSError, ValueError) as error:
            raise MediaError(f"{path}: is not a readable clip ({error})") from error
        if not self._container.streams.video:
            self._container.close()
            raise MediaError(f"{path}: contains no video stream")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.fps = float(self._stream.average_rate or 25)
        self.frames = int(self._stream.frames or 0)

    def __iter__(self) -> Iterator[Pixels]:
        try:
            for frame in self._container.decode(self._stream):
                yield self._fit(frame)
        except (OSError, ValueError) as error:
            raise MediaError(f"{self.path}: is broken ({error})") from error

    def _fit(self, frame: Any) -> Pixels:
        scale = max(self.width / frame.width, self.height / frame.height)
        width, height = max(self.width, round(frame.width * scale)), max(self.height, round(frame.height * scale))
        pixels = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA").to_ndarray()
        top, left = (height - self.height) // 2, (width - self.width) // 2
        return np.ascontiguousarray(pixels[top : top + self.height, left : left + self.width])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._container.close()


class Writer(Protocol):
    """Writes pictures in order; `close` finishes the file."""

    def write(self, pixels: Pixels) -> None: ...

    def close(self) -> None: ...


class ClipWriter:
    """H.264 MP4 that browsers play. Raises MediaError if the file cannot be written."""

    def __init__(self, path: Path, fps: float, width: int, height: int, crf: int = 18) -> None:
        try:
            self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        except (OSError, ValueError) as error:
            raise MediaError(f"{path}: cannot be written ({error})") from error
        self._stream: Any = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.options = {"preset": "veryfast", "crf": str(crf)}

    def write(self, pixels: Pixels) -> None:
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()


class PictureWriter:
    """Writes the last picture as a file of the path's type when it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: Pixels | None = None

    def write(self, pixels: Pixels) -> None:
        self._last = pixels

    def close(self) -> None:
        if self._last is not None:
            try:
                Image.fromarray(self._last).save(self.path)
            except (OSError, ValueError) as error:
                raise MediaError(f"{self.path}: cannot be written ({error})") from error


def read(path: Path, width: int, height: int) -> Iterator[Pixels]:
    """The pictures of a clip, or the one picture of a picture file. Raises MediaError."""
    if is_picture(path):
        yield read_picture(path, width, height)
        return
    with ClipReader(path, width, height) as clip:
        yield from clip


def check_output(path: Path) -> None:
    """Raises MediaError for a file type that cannot be written, or a missing folder."""
    if not is_picture(path) and path.suffix.lower() not in (".mp4", ".m4v"):
        raise MediaError(f"{path}: the output must end in .mp4 or in one of {', '.join(PICTURES)}")
    if not path.resolve().parent.is_dir():
        raise MediaError(f"{path}: its folder does not exist")


def open_writer(path: Path, fps: float, width: int, height: int) -> Writer:
    """A writer for the file type of the path. Raises MediaError."""
    check_output(path)
    return PictureWriter(path) if is_picture(path) else ClipWriter(path, fps, width, height)
