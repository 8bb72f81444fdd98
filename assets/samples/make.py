"""Makes sample.mp4: four public-domain pictures as a hand would film them. Needs scikit-image and PyAV; no network.

    python assets/samples/make.py [OUTPUT]

Every scene drifts and zooms for three seconds and rests for one, so that the similarity gate has something to skip.
The last scene fades into the first: the clip loops without a cut.
"""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

SIZE, RATE = 512, 24
MOVING, RESTING, FADE = 72, 24, 12  # frames of one scene
SCENE = MOVING + RESTING

# (picture, centre x, centre y, visible share of the shorter side at the start and at the end)
SCENES = (
    (data.astronaut, 0.44, 0.40, 0.92, 0.72),
    (data.chelsea, 0.50, 0.48, 0.98, 0.86),
    (data.coffee, 0.50, 0.52, 0.98, 0.88),
    (data.rocket, 0.55, 0.50, 0.98, 0.84),
)


def shake(time: float, phase: float) -> tuple[float, float]:
    """A hand's tremor in shares of the picture: slow sway plus a little quick jitter."""
    x = 0.020 * math.sin(1.9 * time + phase) + 0.003 * math.sin(11.0 * time + 2 * phase)
    y = 0.014 * math.sin(2.6 * time + 1.7 * phase) + 0.003 * math.sin(13.0 * time + phase)
    return x, y


def view(picture: NDArray[np.uint8], scene: int, index: int) -> NDArray[np.float32]:
    """Frame `index` of a scene, [SIZE, SIZE, 3] float; after MOVING frames the camera stands still."""
    _, centre_x, centre_y, start, end = SCENES[scene]
    moved = min(index, MOVING) / MOVING
    eased = moved * moved * (3 - 2 * moved)
    sway_x, sway_y = shake(3.0 * eased, 1.3 * scene)
    height, width = picture.shape[:2]
    side = min(height, width) * (start + (end - start) * eased)
    left = np.clip((centre_x + sway_x) * width - side / 2, 0, width - side)
    top = np.clip((centre_y + sway_y) * height - side / 2, 0, height - side)
    scale = SIZE / side
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]], np.float32)
    return cv2.warpAffine(picture, matrix, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT).astype(np.float32)


def frames() -> list[NDArray[np.uint8]]:
    pictures = [np.ascontiguousarray(load()[..., :3]) for load, *_ in SCENES]
    result = []
    for number in range(len(SCENES)):
        before = number - 1  # Python's -1 is the last scene: the loop closes.
        for index in range(SCENE):
            now = view(pictures[number], number, index)
            if index < FADE:
                share = (index + 1) / (FADE + 1)
                now = share * now + (1 - share) * view(pictures[before], before % len(SCENES), MOVING)
            result.append(np.clip(now + 0.5, 0, 255).astype(np.uint8))
    return result[FADE:] + result[:FADE]  # so that the clip begins with a clean picture


def write(path: Path) -> None:
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE), options={"crf": "25", "preset": "veryslow", "g": "48"})
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for pixels in frames():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("sample.mp4"))
