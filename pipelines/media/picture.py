"""Pictures and animations through Pillow: all frames of a GIF, WebP, APNG or AVIF, the whole of any other picture."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pi_heif
from PIL import Image, ImageOps

from pipelines.media.colour import to_rgb
from pipelines.media.damage import whole_frames
from pipelines.media.fitting import fit
from pipelines.media.timing import Stamped, timed
from pipelines.media.values import AS_IT_IS, MediaError, ReadOptions, Source
from pipelines.values.types import Pixels

MAX_PICTURE = 64_000_000  # pixels; a picture with a larger header is refused before decoding
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
FORMATS = (
    *("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF", "JPEG2000", "PPM", "ICO", "ICNS", "DIB"),
    *("TGA", "PSD", "QOI", "DDS", "SGI", "PCX"),
)
DAMAGE = "rill damage"
"""Key of a picture's `info`: how its file is broken."""

MAX_CUT_WEBP = 256 * 2**20
DEFAULT_DELAY = 100
SHORTEST_DELAY = 10
"""Milliseconds. Browsers show a frame with a delay of at most 10 ms for 100."""

BROKEN = Exception
"""What Pillow raises for a broken file: each of its decoders has errors of its own, from SyntaxError to RuntimeError."""

Image.init()
pi_heif.register_heif_opener()


def identified(path: Path) -> bool:
    """Is the file's content a picture or an animation that Pillow reads? Raises MediaError for a missing file."""
    try:
        with quiet(), _opened(path):
            return True
    except FileNotFoundError:
        raise MediaError(f"{path}: no such file") from None
    except BROKEN:
        return False


def read_picture(path: Path, width: int, height: int, options: ReadOptions = AS_IT_IS) -> Pixels:
    """One picture file as uint8 [height, width, 3]; of an animation the first frame. Raises MediaError."""
    try:
        with quiet(), _opened(path) as picture:
            _bounded(path, picture)
            return _finished(picture, width, height, options)
    except MediaError:
        raise
    except FileNotFoundError:
        raise MediaError(f"{path}: no such file") from None
    except BROKEN as error:
        raise MediaError(f"{path}: is not a readable picture ({error})") from error


def open_pictures(path: Path, width: int, height: int, options: ReadOptions) -> Source:
    """A picture, or an animation with its times. Raises MediaError."""
    try:
        with quiet(), _opened(path) as picture:
            _bounded(path, picture)
            count, form, damage = getattr(picture, "n_frames", 1), picture.format, picture.info.get(DAMAGE)
            skipped = 1 if getattr(picture, "default_image", False) and count > 1 else 0
    except MediaError:
        raise
    except BROKEN as error:
        raise MediaError(f"{path}: is not a readable picture ({error})") from error
    if count - skipped == 1 or form not in ANIMATED:
        only = read_picture(path, width, height, options)
        source = Source(timed(iter([(only, None, None)]), Fraction(1)), 1.0, 1)
        source.damage = damage
        if count > 1 and form == "TIFF":
            source.notes.append(f"of its {count} pages the first is used")
        return source
    source = Source(iter(()), 10.0, count - skipped, damage=damage)
    source.pictures = timed(_frames(path, width, height, options, source, range(skipped, count)), Fraction(DEFAULT_DELAY, 1000))
    return source


def _frames(path: Path, width: int, height: int, options: ReadOptions, source: Source, indices: range) -> Iterator[Stamped]:
    at, shown = Fraction(0), 0
    try:
        with _opened(path) as picture:
            for index in indices:
                with quiet():
                    picture.seek(index)
                    pixels, delay = _finished(picture, width, height, options), _delay(picture)
                yield pixels, at, delay
                at, shown = at + delay, shown + 1
    except BROKEN as error:
        if not shown:
            raise MediaError(f"{path}: is not a readable picture ({error})") from error
        source.damage = f"it is cut off or broken: {shown} of {len(indices)} frames could be read ({error})"


def _delay(picture: Image.Image) -> Fraction:
    """Seconds for which the present frame is shown."""
    given = Fraction(picture.info.get("duration") or 0).limit_denominator(1_000_000)
    return (given if given > SHORTEST_DELAY else Fraction(DEFAULT_DELAY)) / 1000


def _opened(path: Path) -> Image.Image:
    """The picture; of an animated WebP that is cut off the whole frames, since libwebp opens no part of a file."""
    try:
        return Image.open(path, formats=FORMATS)
    except OSError:
        with path.open("rb") as file:
            rest = whole_frames(file.read(MAX_CUT_WEBP)) if file.read(4) == b"RIFF" and not file.seek(0) else None
        if rest is None:
            raise
        picture = Image.open(io.BytesIO(rest[0]), formats=("WEBP",))
        picture.info[DAMAGE] = f"it is cut off: {rest[1]} whole frames are there"
        return picture


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warnings: our own bound of the size is tighter, and a broken tag is no matter of the user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _bounded(path: Path, picture: Image.Image) -> None:
    if picture.width * picture.height > MAX_PICTURE:
        most = f"{MAX_PICTURE // 10**6} megapixels are allowed"
        raise MediaError(f"{path}: {picture.width}x{picture.height} is too large; {most}")


def _finished(picture: Image.Image, width: int, height: int, options: ReadOptions) -> Pixels:
    upright = to_rgb(picture, options.background)
    turned = ImageOps.exif_transpose(_with_orientation(upright, picture))
    return fit(turned, width, height, options)


def _with_orientation(made: Image.Image, original: Image.Image) -> Image.Image:
    """`made` with the orientation of `original`, which conversions lose."""
    orientation = original.getexif().get(0x0112, 1)
    if orientation != 1:
        made.getexif()[0x0112] = orientation
    return made
