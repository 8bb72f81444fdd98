"""Modifiers: what a prompt may add to a look. Palettes and light recolour a picture, textures change its surface and lines.

Each takes (N, 3, H, W) in [0, 1] and returns the same, under the same conditions as the looks. They work on the finished look, so
that each shows in every look; outlines alone are taken from the photograph.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from training import filters as f
from training import strokes as s

Modifier = Callable[[Tensor], Tensor]
Stops = tuple[tuple[float, float, float], ...]


def _duotone(x: Tensor, stops: Stops, share: float = 1.0) -> Tensor:
    """The luma, with a little more contrast, through colours."""
    return f.mix(x, f.gradient_map(f.contrast(f.luminance(x), 2.5), stops), share)


def _toned(x: Tensor, shadows: tuple[float, float, float], lights: tuple[float, float, float], share: float) -> Tensor:
    """Colours kept in part: dark areas towards one colour, bright ones towards another."""
    luma = f.luminance(x)
    return (f.mix(x, f.gradient_map(luma, ((0.0, 0.0, 0.0), shadows, lights, (1.0, 1.0, 1.0))), share)).clamp(0, 1)


def warm(x: Tensor) -> Tensor:
    """Red, orange and yellow."""
    return _toned(x, (0.62, 0.16, 0.05), (1.0, 0.68, 0.24), 0.72)


def cold(x: Tensor) -> Tensor:
    """Blue and cyan."""
    return _toned(x, (0.06, 0.25, 0.6), (0.42, 0.78, 0.98), 0.72)


def pale(x: Tensor) -> Tensor:
    """Pastel colours: bright, soft, little contrast."""
    return (0.52 + 0.48 * f.saturate(x, 1.25)) * f.colour(x, 1.0, 0.97, 0.99)


def vivid(x: Tensor) -> Tensor:
    """Loud saturated colours."""
    return f.saturate(f.contrast(x, 3.0), 2.3)


def grey(x: Tensor) -> Tensor:
    """Black and white."""
    return f.contrast(f.luminance(x), 3.0).expand_as(x).clone()


BLUE_GOLD: Stops = ((0.02, 0.05, 0.2), (0.1, 0.25, 0.58), (0.8, 0.6, 0.2), (1.0, 0.93, 0.66))
RED_BLACK: Stops = ((0.02, 0.0, 0.0), (0.45, 0.02, 0.04), (0.93, 0.12, 0.1), (1.0, 0.86, 0.8))
GREENS: Stops = ((0.01, 0.1, 0.05), (0.08, 0.42, 0.18), (0.5, 0.78, 0.3), (0.93, 1.0, 0.82))
PURPLE_ORANGE: Stops = ((0.12, 0.02, 0.25), (0.48, 0.12, 0.56), (0.98, 0.5, 0.16), (1.0, 0.9, 0.66))
PINK_TEAL: Stops = ((0.0, 0.16, 0.22), (0.05, 0.52, 0.55), (0.97, 0.42, 0.62), (1.0, 0.88, 0.9))

PALETTES: dict[str, Modifier] = {
    "warm": warm,
    "cold": cold,
    "pastel": pale,
    "vivid": vivid,
    "grey": grey,
    "blue_gold": functools.partial(_duotone, stops=BLUE_GOLD),
    "red_black": functools.partial(_duotone, stops=RED_BLACK),
    "green": functools.partial(_duotone, stops=GREENS),
    "purple_orange": functools.partial(_duotone, stops=PURPLE_ORANGE),
    "pink_teal": functools.partial(_duotone, stops=PINK_TEAL),
}


def night(x: Tensor) -> Tensor:
    """Moonlight: dark and blue, bright things still shine."""
    luma = f.luminance(x)
    shine = f.soft_step(luma, 0.8, 0.05)
    dim = f.mix(luma * f.colour(x, 0.32, 0.5, 1.0), x * f.colour(x, 0.5, 0.62, 1.0), 0.5) * (0.12 + 0.42 * luma)
    return (dim + f.colour(x, 0.0, 0.01, 0.05) + shine * f.colour(x, 0.5, 0.42, 0.22)).clamp(0, 1)


def golden(x: Tensor) -> Tensor:
    """Golden hour: low warm sun, glowing highlights, violet shadows."""
    luma = f.luminance(x)
    lit = x * f.mix(f.colour(x, 0.72, 0.56, 0.78), f.colour(x, 1.28, 1.02, 0.58), f.contrast(luma, 3.0))
    glow = f.haze(f.soft_step(luma, 0.6, 0.09), 8.0)
    return (lit + 0.34 * glow * f.colour(x, 1.0, 0.62, 0.2)).clamp(0, 1)


def fog(x: Tensor) -> Tensor:
    """Fog: soft, low in contrast, pale grey-blue, thicker where the picture is bright and plain."""
    soft = 0.6 * x + 0.4 * f.haze(x, 4.0)
    veil = 0.58 + 0.22 * f.haze(f.luminance(x), 12.0)
    return f.mix(f.saturate(soft, 0.6), f.colour(x, 0.82, 0.85, 0.88), veil)


def bright(x: Tensor) -> Tensor:
    """High key: lifted, airy, nearly white lights."""
    lifted = 1 - (1 - x) ** 1.9
    return (lifted + 0.18 * f.haze(f.luminance(lifted), 6.0)).clamp(0, 1)


def backlight(x: Tensor) -> Tensor:
    """Backlight: dark figures with a bright rim before a glowing ground."""
    luma = f.luminance(x)
    ground = f.soft_step(f.blur(luma, 1.5), 0.55, 0.07)
    dark = x * f.colour(x, 0.32, 0.27, 0.34)
    glare = f.mix(x, f.colour(x, 1.0, 0.93, 0.78), 0.7)
    rim = f.haze(ground, 4.0) * (1 - ground)
    return (f.mix(dark, glare, ground) + 0.55 * rim * f.colour(x, 1.0, 0.8, 0.5)).clamp(0, 1)


LIGHTS: dict[str, Modifier] = {"night": night, "golden": golden, "fog": fog, "bright": bright, "backlight": backlight}


OUTLINES: dict[str, tuple[float, float]] = {"thick": (2.1, 0.009), "thin": (0.9, 0.006)}  # width and least contrast
LIGHT_LINES = frozenset({"neon", "chalk", "blueprint", "xray", "terminal", "night_vision"})  # looks that draw light on dark


def outlined(y: Tensor, x: Tensor, kind: str, light: bool) -> Tensor:
    """The contours of the photograph `x` drawn on `y`, dark, or `light`; kind is a key of OUTLINES."""
    sigma, least = OUTLINES[kind]
    line = s.ink_lines(x, s.direction(x), sigma, 60.0, least)
    ink = 0.55 + 0.45 * f.haze(y, 4.0) / f.haze(y, 4.0).amax(1, keepdim=True).clamp_min(0.05)
    return f.mix(y, ink if light else f.colour(x, 0.02, 0.02, 0.04), line)


def _surface(x: Tensor, height: Tensor, depth: float) -> Tensor:
    return (x * (1 + depth * height) + 0.3 * depth * height).clamp(0, 1)


def _waves(x: Tensor, waves: tuple[tuple[int, int, float], ...]) -> Tensor:
    """A sum of waves of period 8 (cycles right, cycles down, phase), about -1 to 1."""
    return torch.stack([s.hatching(x, kx, ky, phase) for kx, ky, phase in waves]).sum(0) / 2.4


def rough(x: Tensor) -> Tensor:
    """Rough paper: coarse bumps show through everything."""
    return _surface(x, _waves(x, ((1, 1, 0.3), (1, -2, 2.1), (2, 1, 4.0), (-2, 2, 5.2), (0, 3, 1.1), (3, 0, 3.3))), 0.27)


def canvas(x: Tensor) -> Tensor:
    """Woven canvas: threads of 4 pixels, over and under in turn."""
    return _surface(x, s.hatching(x, 2, 0) * s.hatching(x, 0, 2), 0.3)


def grain(x: Tensor) -> Tensor:
    """Film grain: the finest bumps that a period of 8 allows, strongest in the mid-tones."""
    luma = f.luminance(x)
    dust = _waves(x, ((3, 4, 0.4), (4, 1, 2.5), (-3, 2, 1.2), (1, 3, 5.0), (4, -3, 3.7), (2, -4, 0.9)))
    return (x + 0.22 * dust * (0.25 + 3.0 * luma * (1 - luma))).clamp(0, 1)


SURFACES: dict[str, Modifier] = {"rough": rough, "canvas": canvas, "grain": grain}
TEXTURES = (*OUTLINES, *SURFACES)
