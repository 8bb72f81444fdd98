"""What readers and writers of files share: errors, pictures with their times, and how a file is to be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from pipelines.values.types import NEUTRAL, Pixels, RillError

FITS = ("crop", "pad", "stretch")
BLACK = (0, 0, 0)


class MediaError(RillError):
    """A file cannot be read or written. The message names it."""


@dataclass(frozen=True, slots=True)
class TimedPicture:
    """uint8 [height, width, 3], shown from `at` to `until`, in seconds from the first picture of its file."""

    pixels: Pixels
    at: Fraction
    until: Fraction


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a file becomes pictures of the stream's size.

    fit: crop fills the size and cuts at the edges, pad shows all of it between bars, stretch ignores the aspect ratio.
    background: RGB 0..255 of what lies behind transparent pixels; bars: of the bars. fps: pictures per second to resample to;
    None keeps the file's own times.
    """

    fit: str = "crop"
    background: tuple[int, int, int] = NEUTRAL
    bars: tuple[int, int, int] = BLACK
    fps: Fraction | None = None


AS_IT_IS = ReadOptions()


@dataclass(slots=True)
class Source:
    """Pictures in their order. fps: of the file on average; count: of pictures, 0 if unknown; start: the first picture's time
    in the file, in seconds.

    `notes` and `damage` are complete when all pictures have been taken: what was left out, and how the file is broken (None if
    it is whole).
    """

    pictures: Iterator[TimedPicture]
    fps: float
    count: int
    start: Fraction = Fraction(0)
    notes: list[str] = field(default_factory=list)
    damage: str | None = None
