"""Photographs that ship inside scikit-image, and random crops of them. Some are held back for evaluation."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import skimage
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from training.scenes import colours, uniform

# File name in skimage/data -> how often its crops are drawn. Licences: see the model card.
TRAINING = {
    "motorcycle_left.png": 4.0, "motorcycle_right.png": 4.0, "rocket.jpg": 4.0, "camera.png": 4.0, "coins.png": 1.0,
    "clock_motion.png": 1.0, "hubble_deep_field.jpg": 1.5, "brick.png": 1.0, "grass.png": 1.0, "gravel.png": 1.0,
    "ihc.png": 1.0, "moon.png": 1.0, "retina.jpg": 1.0, "page.png": 0.5, "cell.png": 0.5, "color.png": 0.5,
}  # fmt: skip
HELD_OUT = ("astronaut.png", "coffee.png", "chelsea.png")
GRADIO = (
    "media_assets/images/cheetah1.jpg", "media_assets/images/lion.jpg", "media_assets/images/tower.jpg",
    "media_assets/images/groot.jpeg", "test_data/cheetah2.jpg",
)  # fmt: skip


def read(path: Path) -> Tensor:
    """(1, 3, H, W) in [0, 1]."""
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


@functools.cache
def training_pictures() -> list[tuple[float, list[Tensor]]]:
    """(weight, pyramid) per training picture; the pyramid holds the picture at scales 1, 1/2 and 1/4."""
    folder = Path(skimage.__file__).parent / "data"
    pictures = []
    for name, weight in TRAINING.items():
        full = read(folder / name)
        pictures.append((weight, [full, F.avg_pool2d(full, 2), F.avg_pool2d(full, 4)]))
    return pictures


def held_out() -> dict[str, Tensor]:
    """Evaluation pictures by name, (1, 3, H, W) in [0, 1]: scikit-image's held-back ones and gradio's where installed."""
    paths = {Path(name).stem: Path(skimage.__file__).parent / "data" / name for name in HELD_OUT}
    try:
        import gradio
    except ImportError:
        pass
    else:
        paths |= {Path(name).stem: Path(gradio.__file__).parent / name for name in GRADIO}
    return {name: read(path) for name, path in paths.items() if path.is_file()}


def square(picture: Tensor, side: int) -> Tensor:
    """The middle square of (1, 3, H, W), resized with antialiasing to side x side."""
    height, width = picture.shape[-2:]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    crop = picture[..., top : top + edge, left : left + edge]
    return F.interpolate(crop, size=(side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def crops(n: int, side: int, rng: Generator) -> Tensor:
    """(N, 3, S, S) crops in [0, 1]: random picture, scale, turn, flip, exposure and colour; grey pictures are tinted."""
    pictures = training_pictures()
    weights = torch.tensor([weight for weight, _ in pictures])
    return torch.cat([_crop(pictures[int(torch.multinomial(weights, 1, generator=rng))][1], side, rng) for _ in range(n)])


def _crop(pyramid: list[Tensor], side: int, rng: Generator) -> Tensor:
    height, width = pyramid[0].shape[-2:]
    largest = min(height, width) / side * 0.98
    scale = min(float(2 ** uniform((), -0.9, 1.2, rng)), largest)  # source pixels per crop pixel
    level = 0 if scale < 1.4 else 1 if scale < 2.8 else 2
    angle = uniform((), -0.25, 0.25, rng) if torch.rand((), generator=rng) < 0.5 else torch.tensor(0.0)
    span_y, span_x = scale * side / height, scale * side / width
    cy = uniform((), -1 + span_y, max(1 - span_y, -1 + span_y), rng)
    cx = uniform((), -1 + span_x, max(1 - span_x, -1 + span_x), rng)
    flip = 1.0 if torch.rand((), generator=rng) < 0.5 else -1.0
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [torch.stack([flip * cos * span_x, -sin * span_x, cx]), torch.stack([flip * sin * span_y, cos * span_y, cy])]
    grid = F.affine_grid(torch.stack(rows)[None], [1, 3, side, side], align_corners=False)
    crop = F.grid_sample(pyramid[level], grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(0, 1)
    return recolour(crop, rng)


def recolour(x: Tensor, rng: Generator) -> Tensor:
    """Random gamma, gain and channel balance; a grey picture is mapped between two random colours half of the time."""
    grey = bool((x[:, 0] - x[:, 2]).abs().mean() < 0.01)
    if grey and torch.rand((), generator=rng) < 0.6:
        dark, bright = 0.35 * colours(1, rng), 0.5 + 0.5 * colours(1, rng)
        x = dark + x * (bright - dark)
    elif torch.rand((), generator=rng) < 0.3:
        x = x[:, torch.randperm(3, generator=rng)]
    x = x.clamp(1e-4, 1) ** (2 ** uniform((1, 1, 1, 1), -0.6, 0.6, rng))
    return (x * uniform((1, 3, 1, 1), 0.75, 1.2, rng) + uniform((1, 1, 1, 1), -0.06, 0.06, rng)).clamp(0, 1)
