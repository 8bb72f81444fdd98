"""Makes the reader of styles (pipelines/networks/style_reader.py): HED's first convolutions, and the texture of known styles.

A known style's texture is measured on what it paints of a few photographs, at the size at which a picture is read.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.checkpoints.loader.style_reading import middle
from pipelines.checkpoints.naming import describe
from pipelines.networks.style_reader import StyleReader
from pipelines.networks.texture import Texture
from training.painter import crops, hed

PHOTOGRAPHS = 3
SHARPNESS = 20.0
PAINTED = 384
"""Pixels of the photographs that known styles paint; they are halved, as a picture of 448 is to the SIDE of style_reading."""


def texture_of(features: hed.Features) -> Texture:
    """The first convolutions of HED, as `Texture` has them."""
    texture = Texture()
    for ours, theirs in zip(texture.blocks, features.blocks, strict=False):
        for mine, conv in zip(ours, theirs, strict=False):  # type: ignore[call-overload]
            mine.load_state_dict(conv.state_dict())
    return texture.requires_grad_(False)


@torch.no_grad()
def build(model: Path, features: hed.Features, photographs: list[Path]) -> StyleReader:
    """The reader for the painter in a model's folder, with its own styles. photographs: they paint the middle of each."""
    parts = ModelParts(describe(str(model)))
    painter, numbers = parts.painter.float(), parts.plain_styles
    made = StyleReader(parts.painter_fingerprint, *numbers.shape, SHARPNESS)
    made.texture = texture_of(features)
    made.known_numbers.copy_(numbers)
    contents = [middle(crops.load(path, PAINTED), PAINTED) for path in photographs]
    found = []
    for row in numbers:
        painted = [painter(content, row[None]) for content in contents]
        found.append(torch.stack([made.key(F.avg_pool2d(picture, 2)) for picture in painted]))
    keys = torch.stack(found)  # [K, photographs, size of a key]
    made.known_keys.copy_(keys.mean(1))
    made.scale.copy_(keys.std(1).mean(0).clamp_min(1e-3))
    return made.eval()


def export(made: StyleReader, folder: Path) -> int:
    """Writes config.json and fp16 weights in diffusers' layout. Returns the weights' bytes."""
    made.half().save_pretrained(folder)
    return (folder / "diffusion_pytorch_model.safetensors").stat().st_size
