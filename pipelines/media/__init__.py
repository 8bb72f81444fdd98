"""Reads and writes picture and clip files as uint8 pictures with their times, with Pillow and PyAV (docs/files.md)."""

from pipelines.media.clip import ClipReader
from pipelines.media.outputs import Writer, check_output, open_writer, takes_sound
from pipelines.media.picture import read_picture
from pipelines.media.sound import Sound
from pipelines.media.source import open_source, read
from pipelines.media.timing import timed
from pipelines.media.values import AS_IT_IS, BLACK, FITS, MediaError, ReadOptions, Source, TimedPicture
from pipelines.values.types import NEUTRAL

__all__ = [
    "AS_IT_IS",
    "BLACK",
    "FITS",
    "NEUTRAL",
    "ClipReader",
    "MediaError",
    "ReadOptions",
    "Sound",
    "Source",
    "TimedPicture",
    "Writer",
    "check_output",
    "open_source",
    "open_writer",
    "read",
    "read_picture",
    "takes_sound",
    "timed",
]
