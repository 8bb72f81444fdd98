"""Makes the thumbnails of the page's presets with the model itself: `python -m benchmarks.thumbnails [NAME ...]`.

Every preset of assets/presets/presets.json (or those with these names) is applied to its source, a photograph that comes with a
pinned package, and saved in the same folder as a small JPEG. Run it after a change of weights or presets. Neighbours have
different sources. assets/presets/README.md names the photographs and their terms.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines import Entry, Frame, Pixels, Settings, SettingsError, StreamPipeline, StreamSpec, load
from studio import environment

ASSETS = Path(__file__).resolve().parents[1] / "assets"
FOLDER = ASSETS / "presets"
SIDE = 144
QUALITY = 80


@dataclass(frozen=True, slots=True)
class Source:
    """A photograph's square part: its centre and side in shares of its width, height and shorter side."""

    load: Callable[[], Pixels]
    x: float = 0.5
    y: float = 0.5
    side: float = 1.0

    def picture(self, width: int, height: int) -> Pixels:
        """uint8 [height, width, 3], RGB. Raises ValueError where width and height differ: the part is a square."""
        if width != height:
            raise ValueError(f"thumbnails are square, not {width} x {height}")
        pixels = self.load()
        pixels = np.stack([pixels] * 3, axis=2) if pixels.ndim == 2 else pixels[..., :3]
        rows, columns = pixels.shape[:2]
        side = round(self.side * min(rows, columns))
        top = min(max(0, round(self.y * rows - side / 2)), rows - side)
        left = min(max(0, round(self.x * columns - side / 2)), columns - side)
        part = np.ascontiguousarray(pixels[top : top + side, left : left + side])
        return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if side > width else cv2.INTER_CUBIC)


def _skimage(name: str) -> Callable[[], Pixels]:
    return lambda: getattr(importlib.import_module("skimage.data"), name)()


def _sklearn(name: str) -> Callable[[], Pixels]:
    return lambda: importlib.import_module("sklearn.datasets").load_sample_image(name)


SOURCES = {
    "face": Source(_skimage("astronaut"), 0.44, 0.28, 0.56),
    "cat": Source(_skimage("chelsea"), 0.5, 0.5),
    "cup": Source(_skimage("coffee"), 0.5, 0.5),
    "rocket": Source(_skimage("rocket"), 0.52, 0.5),
    "photographer": Source(_skimage("camera"), 0.45, 0.4, 0.75),
    "temple": Source(_sklearn("china.jpg"), 0.4, 0.5),
    "flower": Source(_sklearn("flower.jpg"), 0.5, 0.5),
}


@dataclass(frozen=True, slots=True)
class Preset:
    """A look of the page: `source` is a key of SOURCES, `picture` the thumbnail's file name."""

    name: str
    settings: Settings
    source: str
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
        presets.append(Preset(item["name"], settings, item["source"], item["picture"]))
    return manifest["model"], presets


def write_thumbnails(presets: list[Preset], render: Callable[[Preset], Pixels], folder: Path) -> None:
    """Write one thumbnail of SIDE x SIDE for each preset. render: a preset to uint8 [height, width, 3]."""
    for preset in presets:
        small = cv2.resize(render(preset), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
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


def main(names: list[str]) -> int:
    model, presets = read_presets()
    unknown = set(names) - {preset.name for preset in presets}
    if unknown:
        print(f"no preset is named {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    chosen = [preset for preset in presets if not names or preset.name in names]
    pipeline = load(StreamSpec(model), environment.cache_dir())
    sources = {name: source.picture(pipeline.spec.width, pipeline.spec.height) for name, source in SOURCES.items()}
    write_thumbnails(chosen, lambda preset: once(pipeline, sources[preset.source], preset.settings), FOLDER)
    print(f"{len(chosen)} thumbnails in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
