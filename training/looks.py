"""The looks: deterministic picture-to-picture functions that the denoiser learns to paint.

Each takes (N, 3, H, W) in [0, 1], H and W multiples of 8, and returns the same shape and range. Patterns have a period
of 8 pixels, aligned to the corner of the picture: one latent is 8 x 8 pixels, so a convolution over latents can learn them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from training import filters as f

Look = Callable[[Tensor], Tensor]


def photo(x: Tensor) -> Tensor:
    """The picture itself."""
    return x.clamp(0, 1)


def pencil(x: Tensor) -> Tensor:
    """Dodge-and-burn sketch: luma divided by its blurred self, with some of the shading put back."""
    luma = f.blur(f.luminance(x), 0.7)
    ratio = (luma + 0.06) / (f.blur(luma, 5.0) + 0.06)
    strokes = 1 - torch.tanh(3.2 * torch.relu(1.0 - ratio)) - 0.5 * f.lines(x)
    grey = strokes.clamp(0, 1) * (0.68 + 0.32 * f.contrast(luma, 4.0))
    paper = x.new_tensor([0.97, 0.96, 0.93]).view(1, 3, 1, 1)
    return 0.12 + grey * (paper - 0.12)


def neon(x: Tensor) -> Tensor:
    """Glowing edges in the picture's own hues over near black."""
    edge = torch.tanh(9.0 * torch.relu(f.edges(x, 1.5) - 0.012))
    hue = f.blur(x, 3.0)
    hue = hue - hue.amin(1, keepdim=True)
    tint = x.new_tensor([0.25, 0.1, 0.55]).view(1, 3, 1, 1)
    colour = (hue + 0.25 * tint) / (hue + 0.25 * tint).amax(1, keepdim=True)
    glow = f.blur(edge, 4.0)
    dark = x.new_tensor([0.02, 0.01, 0.06]).view(1, 3, 1, 1)
    return (dark + colour * (0.95 * edge + 0.75 * glow) + 0.35 * edge**3).clamp(0, 1)


def cartoon(x: Tensor) -> Tensor:
    """Flat saturated areas (Kuwahara, four luma steps) with black outlines."""
    flat = f.kuwahara(f.kuwahara(x, 3), 3)
    luma = f.luminance(flat)
    stepped = f.posterise(luma, 5, 0.2)
    flat = f.saturate((flat * (stepped + 0.08) / (luma + 0.08)).clamp(0, 1), 1.7)
    flat = 0.08 + 0.92 * flat
    outline = torch.tanh(20.0 * torch.relu(f.edges(x, 1.6) - 0.04))
    return flat * (1 - 0.95 * outline)


def oil(x: Tensor) -> Tensor:
    """Oil paint: large Kuwahara facets, rich colour, raised strokes lit from the top left."""
    paint = f.kuwahara(f.kuwahara(x, 6), 5)
    paint = f.saturate(f.contrast(paint, 3.0), 1.5)
    gx, gy = f.gradients(f.luminance(paint))
    return (paint * x.new_tensor([1.04, 1.0, 0.92]).view(1, 3, 1, 1) + 0.9 * (gx + gy)).clamp(0, 1)


THERMAL = ((0.0, 0.0, 0.08), (0.22, 0.0, 0.5), (0.62, 0.05, 0.5), (0.93, 0.3, 0.15), (1.0, 0.72, 0.1), (1.0, 1.0, 0.85))


def thermal(x: Tensor) -> Tensor:
    """Thermal camera: blurred luma through black, violet, red, orange, yellow, white."""
    return f.gradient_map(f.contrast(f.blur(f.luminance(x), 2.0), 4.0), THERMAL)


def blueprint(x: Tensor) -> Tensor:
    """White drawing lines and faint shading on blue paper."""
    edge = torch.tanh(14.0 * torch.relu(f.edges(x, 1.2) - 0.014))
    shade = f.blur(f.luminance(x), 2.0)
    paper = x.new_tensor([0.05, 0.2, 0.52]).view(1, 3, 1, 1)
    ink = x.new_tensor([0.86, 0.93, 1.0]).view(1, 3, 1, 1)
    base = paper * (0.72 + 0.5 * shade)
    return base + (ink - base) * edge


def watercolour(x: Tensor) -> Tensor:
    """Thin washes on white paper: pale smooth areas, darker rims where a wash ends."""
    wash = f.kuwahara(f.kuwahara(x, 4), 3)
    wash = f.saturate(wash, 1.5)
    rim = torch.tanh(9.0 * f.edges(wash, 1.5))
    pale = 1 - (1 - wash) ** 1.15 * 0.66
    bleed = f.soft_step(f.blur(f.luminance(x), 4.0), 0.72, 0.06)
    pale = pale + (1 - pale) * 0.85 * bleed
    return (pale * (1 - 0.42 * rim * (1 - wash * 0.5))).clamp(0, 1)


def pixel(x: Tensor) -> Tensor:
    """Pixel art: blocks of 8 pixels in few saturated colours."""
    return f.posterise(f.saturate(f.contrast(f.blocks(x), 3.0), 1.5), 6, 0.3).clamp(0, 1)


def _dots() -> Tensor:
    """(8, 8) distance from the middle of a cell, 0 in the middle and about 1 in the corners."""
    axis = torch.arange(8) - 3.5
    return torch.sqrt(axis[:, None] ** 2 + axis[None] ** 2) / 4.95


def halftone(x: Tensor) -> Tensor:
    """Comic print: dots of 8 pixels on cream paper, darker means larger, flat colour and black outlines."""
    flat = f.saturate(f.posterise(f.kuwahara(x, 3), 4, 0.4), 1.9)
    tone = f.blocks(f.luminance(x))
    radius = 1.02 * torch.sqrt((1 - tone).clamp(0, 1)) - 0.12
    dot = torch.sigmoid((radius - f.tile(_dots(), x)) / 0.07)
    paper = x.new_tensor([1.0, 0.96, 0.86]).view(1, 3, 1, 1)
    ink = flat * 0.8
    outline = torch.tanh(18.0 * torch.relu(f.edges(x, 1.5) - 0.05))
    return (paper * (1 - dot) + ink * dot) * (1 - 0.95 * outline)


def engraving(x: Tensor) -> Tensor:
    """Black and white engraving: slanted lines of period 8 that swell where the picture is dark."""
    tone = f.contrast(f.blur(f.luminance(x), 1.5), 5.0)
    axis = torch.arange(8)
    phase = ((axis[:, None] + axis[None]) % 8 - 3.5).abs() / 4.0  # 0.125 on the line, 0.875 between lines
    line = torch.sigmoid(((1 - tone) * 1.1 - 0.1 - f.tile(phase, x)) / 0.09)
    outline = torch.tanh(12.0 * torch.relu(f.edges(x, 1.2) - 0.035))
    ink = 1 - (1 - line) * (1 - outline)
    paper = x.new_tensor([0.96, 0.93, 0.86]).view(1, 3, 1, 1)
    return paper + (0.07 - paper) * ink


def night_vision(x: Tensor) -> Tensor:
    """Image intensifier: bright green phosphor with glow and scan lines of period 4."""
    luma = f.luminance(x)
    bright = (luma + 0.5 * f.blur(luma, 5.0)) / 1.5
    bright = torch.sqrt(f.contrast(bright, 3.5).clamp(0, 1) + 1e-4)
    scan = torch.tensor([1.0, 0.92, 0.72, 0.92]).view(4, 1).expand(4, 4)
    green = ((0.02, 0.05, 0.02), (0.0, 0.35, 0.06), (0.1, 0.75, 0.15), (0.75, 1.0, 0.7))
    return f.gradient_map(bright, green) * f.tile(scan, x)


def vintage(x: Tensor) -> Tensor:
    """Old photograph: soft sepia with faded blacks."""
    luma = f.blur(f.luminance(x), 0.8)
    glow = 0.8 * luma + 0.2 * f.blur(luma, 5.0)
    return f.gradient_map(f.contrast(glow, 3.0), ((0.2, 0.13, 0.08), (0.62, 0.46, 0.3), (0.97, 0.89, 0.72)))


def vaporwave(x: Tensor) -> Tensor:
    """Synthwave poster: indigo, magenta, orange-pink and cyan by brightness, with bright cyan edges."""
    luma = f.contrast(f.kuwahara(f.luminance(x), 3), 4.0)
    stops = ((0.08, 0.03, 0.25), (0.42, 0.08, 0.6), (0.95, 0.2, 0.65), (1.0, 0.6, 0.6), (0.6, 0.98, 1.0))
    base = f.gradient_map(luma, stops)
    edge = torch.tanh(8.0 * torch.relu(f.edges(x, 1.5) - 0.03))
    return (base + 0.7 * edge * (x.new_tensor([0.2, 0.95, 1.0]).view(1, 3, 1, 1) - base)).clamp(0, 1)


def relief(x: Tensor) -> Tensor:
    """Stone relief: the brightness as a height field, lit from the top left."""
    gx, gy = f.gradients(f.blur(f.luminance(x), 1.0))
    slope = torch.tanh(8.0 * (gx + gy))
    stone = x.new_tensor([0.62, 0.59, 0.54]).view(1, 3, 1, 1)
    shade = 0.85 + 0.3 * f.blur(f.luminance(x), 6.0)
    return (stone * shade * (1 - 0.75 * slope)).clamp(0, 1)


LOOKS: dict[str, Look] = {
    look.__name__: look
    for look in (
        photo, pencil, neon, cartoon, oil, thermal, blueprint, watercolour, pixel, halftone, engraving, night_vision,
        vintage, vaporwave, relief,
    )
}  # fmt: skip
