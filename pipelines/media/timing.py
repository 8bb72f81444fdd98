"""When each picture is shown. Times are exact fractions of a second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

from pipelines.media.values import TimedPicture
from pipelines.values.types import Pixels

Stamped = tuple[Pixels, Fraction | None, Fraction | None]
"""A picture with the time and the duration that its file gives; None where it gives none."""


def timed(stamped: Iterable[Stamped], step: Fraction) -> Iterator[TimedPicture]:
    """Pictures with times that rise from 0. step: seconds between pictures where the file does not say it."""
    origin: Fraction | None = None
    waiting: tuple[Pixels, Fraction, Fraction] | None = None
    for pixels, given, duration in stamped:
        length = duration if duration else step
        if origin is None:
            origin = given or Fraction(0)
        if waiting is None:
            at = Fraction(0)
        else:
            before, since, lasting = waiting
            at = since + lasting if given is None or given - origin <= since else given - origin
            yield TimedPicture(before, since, at)
            if not duration:
                length = at - since
        waiting = (pixels, at, length)
    if waiting is not None:
        yield TimedPicture(waiting[0], waiting[1], waiting[1] + waiting[2])


def resampled(pictures: Iterable[TimedPicture], fps: Fraction) -> Iterator[TimedPicture]:
    """At `fps` a picture for each moment: the one shown then. The whole lasts as long as before, up to one interval."""
    count = 0
    for picture in pictures:
        while Fraction(count) / fps < picture.until:
            if count / fps >= picture.at:
                yield TimedPicture(picture.pixels, count / fps, (count + 1) / fps)
            count += 1
