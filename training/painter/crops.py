"""Windows of photographs and paintings at random scales, and what a camera or the pocket's decoder makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.painter.source import Source

LONGEST = 640  # pixels of a kept picture's shorter side; a window shows it at 1 to 0.4 of that
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Photograph:
    """A picture in memory, and what pocket makes of it in the look photo (the same size), if that was made."""

    name: str
    clean: Picture
    repainted: Picture | None


def load(path: Path, shorter: int = LONGEST) -> Picture:
    """RGB [H, W, 3], shrunk until its shorter side is at most `shorter`."""
    picture = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    scale = shorter / min(picture.shape[:2])
    if scale < 1:
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.asarray(picture)


def photographs(folder: Path, sources: list[Source], repainted: Path | None = None) -> list[Photograph]:
    """All of them; `repainted` holds NAME.png for those that pocket has painted."""
    found = []
    for source in sources:
        clean = load(folder / source.path)
        path = repainted / f"{source.name}.png" if repainted else None
        twin = load(path, 10**6) if path and path.exists() else None
        if twin is not None and twin.shape != clean.shape:
            twin = np.asarray(cv2.resize(twin, clean.shape[1::-1], interpolation=cv2.INTER_CUBIC))
        found.append(Photograph(source.name, clean, twin))
    return found


def window(photograph: Photograph, side: int, rng: np.random.Generator, degraded: bool) -> Picture:
    """[side, side, 3] of a random place and size, mirrored, brighter or darker at random. It is of what pocket repainted if
    `degraded` and there is such a picture."""
    twin = photograph.repainted if degraded else None
    picture = photograph.clean if twin is None else twin
    height, width = picture.shape[:2]
    shown = int(rng.uniform(side, max(side + 1, min(height, width))))
    shown = min(shown, height, width)
    y, x = rng.integers(0, height - shown + 1), rng.integers(0, width - shown + 1)
    mirrored, gamma, gain = rng.random() < 0.5, float(np.exp(rng.normal(0, 0.2))), float(np.exp(rng.normal(0, 0.1)))
    tone = np.clip(gain * (np.arange(256) / 255) ** gamma * 255, 0, 255).astype(np.uint8)
    part = picture[y : y + shown, x : x + shown]
    part = cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA if shown > side else cv2.INTER_CUBIC)
    return np.asarray(tone[part[:, ::-1] if mirrored else part])


def tensor(pictures: list[Picture]) -> Tensor:
    """[B, 3, H, W] in [-1, 1], channels last."""
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return stacked.contiguous(memory_format=torch.channels_last)


def noisy(x: Tensor, rng: np.random.Generator, most: float = 4.0) -> Tensor:
    """With a sensor's noise of up to `most` of 255."""
    level = torch.from_numpy(rng.uniform(0, most, (len(x), 1, 1, 1)).astype(np.float32)) / 127.5
    noise = torch.from_numpy(rng.standard_normal(tuple(x.shape), dtype=np.float32))
    return (x + level * noise).clamp(-1, 1)
