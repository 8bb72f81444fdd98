"""Makes the thumbnails of the page's presets with the model itself: `python -m benchmarks.thumbnails [PICTURE]`.

Every preset of assets/presets/presets.json is applied to one picture (by default a frame of the sample clip) and saved in the
same folder as a small JPEG. Run it after a change of weights or presets.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from pipelines import Entry, Frame, Pixels, Settings, SettingsError, StreamPipeline, StreamSpec, load, media
from studio import environment

ASSETS = Path(__file__).resolve().parents[1] / "assets"
FOLDER = ASSETS / "presets"
SAMPLE_FRAME = 110
"""A frame of the sample clip with a face in the middle (the cat)."""
SIDE = 144
QUALITY = 80


@dataclass(frozen=True, slots=True)
class Preset:
    """A look of the page: `picture` is the thumbnail's file name."""

    name: str
    settings: Settings
    picture: str


def read_presets(folder: Path = FOLDER) -> tuple[str, list[Preset]]:
    """The model's name and its presets. Raises SettingsError for a setting that is unknown or out of range."""
    manifest: dict[str, Any] = json.loads((folder / "presets.json").read_text(encoding="utf-8"))
    presets = []
    for item in manifest["presets"]:
        try:
            settings = Settings().patched(item["settings"])
        except SettingsError as error:
            raise SettingsError(error.field, f"{error.reason} (preset {item['name']!r})") from error
        presets.append(Preset(item["name"], settings, item["picture"]))
    return manifest["model"], presets


def write_thumbnails(presets: list[Preset], render: Callable[[Settings], Pixels], folder: Path) -> None:
    """Write one thumbnail of SIDE x SIDE for each preset. render: settings to uint8 [height, width, 3]."""
    for preset in presets:
        small = cv2.resize(render(preset.settings), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        _, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1])
        (folder / preset.picture).write_bytes(data.tobytes())


def once(pipeline: StreamPipeline, source: Pixels, settings: Settings) -> Pixels:
    """The picture of `source` in a new session with these settings."""
    pipeline.prepare(settings)
    state = pipeline.open(settings)
    (output,) = pipeline.step([Entry(state, Frame(0, 0.0, source), settings)])
    while output.pixels is None:
        (output,) = pipeline.step([Entry(state, None, settings)])
    return output.pixels.numpy()


def main(picture: Path | None) -> None:
    model, presets = read_presets()
    pipeline = load(StreamSpec(model), environment.cache_dir())
    size = pipeline.spec.width, pipeline.spec.height
    if picture is None:
        with media.ClipReader(ASSETS / "samples" / "sample.mp4", *size) as clip:
            source = next(pixels for index, pixels in enumerate(clip) if index == SAMPLE_FRAME)
    else:
        source = media.read_picture(picture, *size)
    write_thumbnails(presets, lambda settings: once(pipeline, source, settings), FOLDER)
    print(f"{len(presets)} thumbnails in {FOLDER}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
