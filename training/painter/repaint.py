"""What today's pocket makes of photographs in the look photo: inputs as the painter meets them behind its decoder."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from pipelines import Entry, Frame, Settings, StreamSpec, load
from training.painter import crops
from training.painter.source import Source

SIDE = 512


def repaint(folder: Path, sources: list[Source], target: Path, seed: int) -> None:
    """Writes target/NAME.png, [SIDE, 2·SIDE, 3]: the middle of the photograph, and pocket's picture of it at a random strength
    and one step. What is there is kept."""
    target.mkdir(parents=True, exist_ok=True)
    missing = [source for source in sources if not (target / f"{source.name}.png").exists()]
    if not missing:
        return
    pipeline = load(StreamSpec(model="pocket", width=SIDE, height=SIDE))
    for source in tqdm(missing, desc="repaint"):
        clean = middle(crops.load(folder / source.path, SIDE))
        rng = np.random.default_rng([seed, *source.name.encode()])
        settings = Settings(prompt="photo", strength=float(rng.uniform(0.2, 0.6)), steps=1, seed=int(rng.integers(999)))
        (output,) = pipeline.step([Entry(pipeline.open(settings), Frame(0, 0.0, clean), settings)])
        if output.pixels is None:
            raise RuntimeError(f"{source.name}: pocket gave no picture ({output.verdict})")
        both = np.concatenate([clean, output.pixels.numpy()], axis=1)
        cv2.imwrite(str(target / f"{source.name}.png"), cv2.cvtColor(both, cv2.COLOR_RGB2BGR))


def middle(picture: crops.Picture) -> crops.Picture:
    """The centred square of SIDE pixels; a smaller picture is enlarged."""
    height, width = picture.shape[:2]
    side = min(height, width)
    y, x = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(picture[y : y + side, x : x + side])
    return np.asarray(square if side == SIDE else cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))


def read(target: Path, sources: list[Source]) -> list[crops.Photograph]:
    """The pairs that `repaint` wrote."""
    found = []
    for source in sources:
        both = crops.load(target / f"{source.name}.png")
        found.append(crops.Photograph(source.name, both[:, :SIDE], both[:, SIDE:]))
    return found
