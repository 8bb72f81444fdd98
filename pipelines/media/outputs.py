"""The writer for a file's name: a clip, an animation, a picture, or a picture for each frame."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from PIL import Image

from pipelines.media.encoder import APNG, GIF, MP4, WEBM, WEBP, AnimationWriter, ClipWriter
from pipelines.media.sound import Sound
from pipelines.media.values import MediaError
from pipelines.values.types import Pixels

CLIPS = {".mp4": MP4, ".m4v": MP4, ".mov": MP4, ".webm": WEBM}
ANIMATIONS = {".gif": GIF, ".apng": APNG, ".webp": WEBP}
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".avif")
NUMBER = re.compile(r"%0?\d*d")
"""In a name: where the number of a frame goes, from 1 on."""


class Writer(Protocol):
    """Writes pictures in order; `close` finishes the file. sound: what became of the clip's sound, None if it has no place
    here. notes: what was left out, complete after `close`."""

    sound: str | None
    notes: list[str]

    def write(self, pixels: Pixels, at: Fraction | None = None, until: Fraction | None = None) -> None: ...

    def close(self) -> None: ...


class PictureWriter:
    """Writes the last picture as a file of the path's type when it is closed."""

    sound: str | None = None

    def __init__(self, path: Path) -> None:
        self.path, self.notes = path, list[str]()
        self._last: Pixels | None = None
        self._count = 0

    def write(self, pixels: Pixels, at: Fraction | None = None, until: Fraction | None = None) -> None:
        self._last = pixels
        self._count += 1

    def close(self) -> None:
        if self._last is not None:
            _save(self._last, self.path)
        if self._count > 1:
            name = f"{self.path.stem}-%04d{self.path.suffix}"
            self.notes.append(f"the picture holds the last of {self._count} frames; {name} keeps all of them")


class SequenceWriter:
    """A picture for each frame: frame-0001.png and so on in a folder, or by a name with a place for the number."""

    sound: str | None = None

    def __init__(self, path: Path) -> None:
        self.path, self.notes = path, list[str]()
        self._count = 0

    def write(self, pixels: Pixels, at: Fraction | None = None, until: Fraction | None = None) -> None:
        self._count += 1
        _save(pixels, self._name())

    def _name(self) -> Path:
        if not is_folder(self.path):
            name = NUMBER.sub(lambda place: place[0] % self._count, self.path.name, count=1)
            return self.path.with_name(name)
        self.path.mkdir(exist_ok=True)
        return self.path / f"frame-{self._count:04d}.png"

    def close(self) -> None:
        """Nothing is left to do."""


def is_folder(path: Path) -> bool:
    """Does this output name a folder for pictures: one that exists, or a name without an ending?"""
    return path.is_dir() or (not path.suffix and not path.exists())


def _is_sequence(path: Path) -> bool:
    return is_folder(path) or (path.suffix.lower() in PICTURES and NUMBER.search(path.name) is not None)


def _save(pixels: Pixels, path: Path) -> None:
    try:
        Image.fromarray(pixels).save(path)
    except (OSError, ValueError, KeyError) as error:
        raise MediaError(f"{path}: cannot be written ({error})") from error


def check_output(path: Path) -> None:
    """Raises MediaError for a file type that cannot be written, or a missing folder."""
    if not _is_sequence(path) and path.suffix.lower() not in {*CLIPS, *ANIMATIONS, *PICTURES}:
        endings = ", ".join((*CLIPS, *ANIMATIONS, *PICTURES))
        raise MediaError(
            f"{path}: the output must end in one of {endings}; a folder, or a name with %04d, takes a picture a frame"
        )
    if not path.resolve().parent.is_dir():
        raise MediaError(f"{path}: its folder does not exist")


def open_writer(path: Path, fps: float, width: int, height: int, sound: Sound | None = None) -> Writer:
    """A writer for the kind of file that the name says. sound: goes in where there is place for it. Raises MediaError."""
    check_output(path)
    kind = path.suffix.lower()
    if _is_sequence(path):
        return SequenceWriter(path)
    if kind in CLIPS:
        return ClipWriter(path, fps, width, height, CLIPS[kind], sound)
    if kind in ANIMATIONS:
        return AnimationWriter(path, fps, width, height, ANIMATIONS[kind])
    return PictureWriter(path)


def takes_sound(path: Path) -> bool:
    """Can a file of this name hold sound?"""
    return not _is_sequence(path) and path.suffix.lower() in CLIPS
