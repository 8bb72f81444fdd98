"""Moving input for tests and benchmarks: deterministic clips from photographs inside scikit-image and gradio.

A clip is a pure function from frame index to picture. A handheld camera pans and zooms over a photograph, a cut-out of a second
one moves through the view, the exposure drifts, the sensor adds noise of σ = 2/255, and one cut changes the scene. Optional
pauses stop everything but the sensor noise for 2 s, at most 30% of the clip. All pictures are from these packages, except for
the film clip in ../shared/clips, which some checkouts have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.media import ClipReader
from pipelines.values.types import Pixels

FPS = 25.0
PAUSE_S = 2.0
NOISE = 2.0  # σ of the sensor, of 255
FILM = Path(__file__).resolve().parents[1].parent / "shared" / "clips" / "bigbuckbunny.mp4"

Picture = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scene:
    """The content of a clip. seconds: of the whole clip; pauses: the start of each, in seconds; motion: 0 is a tripod; head: the
    astronaut's head sways and talks, before a still background."""

    first: str
    second: str
    cutout: str
    seconds: float = 10.0
    pauses: tuple[float, ...] = ()
    motion: float = 1.0
    cut: bool = True
    local: bool = True
    head: bool = False
    seed: int = 0

    @property
    def pause_share(self) -> float:
        return len(self.pauses) * PAUSE_S / self.seconds


SCENES: dict[str, Scene] = {
    "handheld": Scene("cheetah2", "astronaut", "astronaut", seed=1),
    "pauses": Scene("astronaut", "cheetah2", "cheetah2", seconds=14.0, pauses=(2.5, 9.0), seed=2),
    "portrait": Scene("astronaut", "astronaut", "cheetah2", motion=0.15, cut=False, seed=3),
    "stars": Scene("hubble_deep_field", "camera", "astronaut", seed=4),
    "head": Scene("astronaut", "astronaut", "astronaut", motion=0.0, cut=False, local=False, head=True, seed=6),
    "still": Scene("astronaut", "astronaut", "astronaut", motion=0.0, cut=False, local=False, seed=5),
}
MOVING = ("handheld", "portrait", "stars")
"""Clips without a pause. The film clip is another one, if present."""


@dataclass(frozen=True)
class Clip:
    """A clip at one size. `len(clip)` frames at `fps`; `clip[i]` is uint8 [height, width, 3], always the same for the same i."""

    name: str
    width: int
    height: int
    frames: int
    fps: float = FPS
    _scene: Scene | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, index: int) -> Pixels:
        if not 0 <= index < self.frames:
            raise IndexError(index)
        if self._scene is None:
            return _film(self.width, self.height)[index]
        return _shot(self._scene, index, self.width, self.height)

    def __iter__(self) -> Iterator[Pixels]:
        return (self[index] for index in range(self.frames))


def names() -> tuple[str, ...]:
    """The names of all clips on this machine."""
    return (*SCENES, "film") if FILM.is_file() else tuple(SCENES)


def clip(name: str, width: int = 512, height: int = 512, frames: int | None = None) -> Clip:
    """The clip of that name, with at most `frames` frames. Raises KeyError for an unknown name."""
    if name == "film":
        total = len(_film(width, height))
        return Clip(name, width, height, min(frames or total, total))
    scene = SCENES[name]
    total = round(scene.seconds * FPS)
    return Clip(name, width, height, min(frames or total, total), _scene=scene)


@cache
def photograph(name: str) -> Picture:
    """A photograph as float32 [H, W, 3], 0..255."""
    import gradio
    import skimage

    roots = (Path(skimage.__file__).parent / "data", Path(gradio.__file__).parent / "test_data")
    for root in roots:
        for path in root.glob(f"{name}.*"):
            return np.asarray(Image.open(path).convert("RGB"), dtype=np.float32)
    raise FileNotFoundError(f"no photograph {name!r} inside scikit-image or gradio")


def _shot(scene: Scene, index: int, width: int, height: int) -> Pixels:
    t = scene_time(scene, index / FPS)
    second_half = scene.cut and index / FPS >= scene.seconds * 0.5
    photo = photograph(scene.second if second_half else scene.first)
    picture = _talking(photo, t, width, height) if scene.head else _camera(photo, scene, t, width, height)
    if scene.local:
        _paste(picture, scene, t)
    picture *= 1.0 + 0.12 * scene.motion * math.sin(0.7 * t)  # exposure drift
    noise = np.random.default_rng((scene.seed, index)).standard_normal(picture.shape, dtype=np.float32) * NOISE
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def scene_time(scene: Scene, seconds: float) -> float:
    """The time of the scene's motion: it stops during pauses."""
    return seconds - sum(min(max(seconds - start, 0.0), PAUSE_S) for start in scene.pauses)


def _camera(photo: Picture, scene: Scene, t: float, width: int, height: int) -> Picture:
    """Handheld pan and zoom: sums of slow and fast sines, always inside the photograph."""
    m = scene.motion
    rows, columns = photo.shape[:2]
    side = min(rows * width / height, columns) * (0.78 - 0.10 * m * math.sin(0.31 * t))  # width of the view in the photo
    scale = width / side
    free_x, free_y = (columns - side) / 2, (rows - side * height / width) / 2
    shake_x, shake_y = 0.012 * math.sin(9.1 * t + 1), 0.012 * math.sin(7.7 * t)
    x = columns / 2 + free_x * m * (0.85 * math.sin(0.43 * t + scene.seed) + shake_x)
    y = rows / 2 + free_y * m * (0.85 * math.sin(0.37 * t + 2 * scene.seed) + shake_y)
    roll = 0.02 * m * math.sin(0.9 * t)
    c, s = scale * math.cos(roll), scale * math.sin(roll)
    matrix = np.array([[c, -s, width / 2 - c * x + s * y], [s, c, height / 2 - s * x - c * y]])
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    warped = cv2.warpAffine(photo, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.ascontiguousarray(warped, dtype=np.float32)


def _talking(photo: Picture, t: float, width: int, height: int) -> Picture:
    """A portrait on a still background: the head sways and nods by up to 2% of the width, the mouth opens; all else stands."""
    still = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j].astype(np.float32)
    head = np.exp(-(np.hypot((x - 0.434) / 0.186, (y - 0.244) / 0.215) ** 4))
    mouth = np.exp(-(((x - 0.443) / 0.059) ** 2) - ((y - 0.313) / 0.043) ** 2)
    across = head * (0.0137 * math.sin(1.9 * t) + 0.0039 * math.sin(5.3 * t))
    down = head * 0.0078 * math.sin(2.7 * t + 1) + mouth * 0.0098 * math.sin(17 * t)
    from_x, from_y = (x - across) * (width - 1), (y - down) * (height - 1)
    return np.asarray(cv2.remap(still, from_x, from_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101), np.float32)


def _paste(picture: Picture, scene: Scene, t: float) -> None:
    """Paste an oval cut-out of a second photograph, a fifth of the view wide, that crosses the picture; its edge is blended."""
    height, width = picture.shape[:2]
    side = width // 5
    patch = _cutout(scene.cutout, side)
    x = int((width - side) * (0.5 + 0.45 * math.sin(1.3 * t + scene.seed)))
    y = int((height - side) * (0.5 + 0.40 * math.sin(0.9 * t)))
    yy, xx = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    alpha = np.clip((1 - np.hypot(xx, yy)) * 8, 0, 1)[..., None].astype(np.float32)
    view = picture[y : y + side, x : x + side]
    view += alpha * (patch - view)


@cache
def _cutout(name: str, side: int) -> Picture:
    photo = photograph(name)
    rows, columns = photo.shape[:2]
    size = min(rows, columns) // 2
    top, left = rows // 10, (columns - size) // 2
    return cv2.resize(photo[top : top + size, left : left + size], (side, side), interpolation=cv2.INTER_AREA)


@cache
def _film(width: int, height: int) -> tuple[Pixels, ...]:
    with ClipReader(FILM, width, height) as reader:
        return tuple(reader)
