"""Any file, or a folder of pictures, as pictures with times. The kind is known by the content, not by the name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from pipelines.media.clip import ClipReader
from pipelines.media.picture import identified, open_pictures, read_picture
from pipelines.media.timing import resampled
from pipelines.media.values import AS_IT_IS, MediaError, ReadOptions, Source, TimedPicture
from pipelines.values.types import Pixels

FOLDER_FPS = Fraction(25)


def open_source(path: Path, width: int, height: int, options: ReadOptions = AS_IT_IS) -> Source:
    """Raises MediaError when the file cannot be opened; so may taking the first picture."""
    if path.is_dir():
        return _folder(path, width, height, options)
    if path.exists() and not path.is_file():
        raise MediaError(f"{path}: is neither a file nor a folder")
    source = open_pictures(path, width, height, options) if identified(path) else _clip(path, width, height, options)
    if options.fps is not None and source.count != 1:
        source.pictures = resampled(source.pictures, options.fps)
        source.fps, source.count = float(options.fps), 0
    return source


def read(path: Path, width: int, height: int) -> Iterator[Pixels]:
    """The pictures of a clip or of an animation, or the one picture of a picture file. Raises MediaError."""
    for picture in open_source(path, width, height).pictures:
        yield picture.pixels


def _clip(path: Path, width: int, height: int, options: ReadOptions) -> Source:
    clip = ClipReader(path, width, height, options)
    source = Source(iter(()), clip.fps, clip.frames, clip.start, clip.notes)

    def pictures() -> Iterator[TimedPicture]:
        with clip:
            for picture in clip.timed():
                source.start = clip.start
                yield picture
            source.damage = clip.damage

    source.pictures = pictures()
    return source


def _folder(path: Path, width: int, height: int, options: ReadOptions) -> Source:
    """The pictures of a folder in the order of their names, where 10 comes after 9."""
    files = sorted((file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")), key=_counted)
    pictures = [file for file in files if identified(file)]
    if not pictures:
        raise MediaError(f"{path}: this folder holds no picture")
    fps = options.fps or FOLDER_FPS

    def read_all() -> Iterator[TimedPicture]:
        for index, file in enumerate(pictures):
            yield TimedPicture(read_picture(file, width, height, options), index / fps, (index + 1) / fps)

    source = Source(read_all(), float(fps), len(pictures))
    if len(pictures) < len(files):
        others = [file.name for file in files if file not in pictures]
        source.notes.append(f"{len(others)} files of the folder are no pictures, the first is {others[0]}")
    return source


def _counted(path: Path) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in names by their value."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", path.name.lower()) if part]
