"""Pictures on screens."""

from __future__ import annotations

import functools

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from training import filters as f
from training import strokes as s


def pixel(x: Tensor) -> Tensor:
    """Pixel art: blocks of 8 pixels in few saturated colours, with the dark gaps of a handheld's screen between them."""
    axis = torch.arange(8)
    gap = f.tile(((axis[:, None] == 7) | (axis[None] == 7)).float(), x)
    return f.posterise(f.saturate(f.contrast(f.blocks(x), 3.0), 1.5), 6, 0.3).clamp(0, 1) * (1 - 0.25 * gap)


def night_vision(x: Tensor) -> Tensor:
    """Image intensifier: bright green phosphor with glow and scan lines of period 4."""
    luma = f.luminance(x)
    bright = (luma + 0.5 * f.haze(luma, 5.0)) / 1.5
    bright = torch.sqrt(f.contrast(bright, 3.5).clamp(0, 1) + 1e-4)
    green = ((0.02, 0.05, 0.02), (0.0, 0.35, 0.06), (0.1, 0.75, 0.15), (0.75, 1.0, 0.7))
    return f.gradient_map(bright, green) * (0.88 + 0.12 * s.hatching(x, 0, 2))


@functools.cache
def _glyphs() -> Tensor:
    """(10, 8, 8) masks of characters, each brighter than the one before."""
    font = ImageFont.load_default(size=10)
    cells = []
    for glyph in " .:-+*ox%#@":
        image = Image.new("L", (8, 8))
        ImageDraw.Draw(image).text((4, 4), glyph, fill=255, font=font, anchor="mm")
        cells.append(torch.tensor(list(image.tobytes()), dtype=torch.float32).view(8, 8) / 255)
    stack = torch.stack(cells)
    return stack[stack.mean((1, 2)).argsort()]


def terminal(x: Tensor) -> Tensor:
    """Text terminal: a green character per 8 x 8 pixels on black, denser and brighter where the picture is bright."""
    cells = f.contrast(f.blocks(f.luminance(x)), 4.5).clamp(0, 1)
    glyphs = _glyphs().to(x)
    position = cells * (len(glyphs) - 1)
    ink = torch.zeros_like(cells)
    for index, glyph in enumerate(glyphs):
        ink = ink + torch.relu(1 - (position - index).abs()) * f.tile(glyph, x)
    level = ink * (0.4 + 0.6 * cells) + 0.42 * f.contrast(f.blur(f.luminance(x), 2.0), 5.0)
    return f.gradient_map(level, ((0.0, 0.03, 0.01), (0.05, 0.62, 0.18), (0.75, 1.0, 0.72)))
