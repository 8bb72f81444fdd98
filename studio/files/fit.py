"""A picture to the file of a style: its numbers are fitted, then written with a name and a tile."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from pipelines import ModelError, ModelParts, PictureStyle, fitted, media
from studio.pictures.style_file import file_of

FIT_SIDE = 448


def fit_file(parts: ModelParts, picture: Path, style: Path, name: str, origin: str = "", licence: str = "") -> PictureStyle:
    """Fits a picture and writes the file. name: up to 60 characters; origin, licence: of the picture. Raises MediaError and
    ModelError."""
    pixels = media.read_picture(picture, FIT_SIDE, FIT_SIDE)
    with tqdm(total=100, unit="%", disable=not sys.stderr.isatty()) as bar:
        for done, gain, best in fitted(parts, pixels):
            bar.update(round(100 * done) - bar.n)
            bar.set_postfix(gain=f"{gain:.2f}")
            found = best
    data = file_of(replace(found, name=name, picture=origin, licence=licence))
    try:
        style.write_bytes(data)
    except OSError as error:
        raise ModelError(f"{style}: cannot be written ({error.strerror or error})") from error
    return found
