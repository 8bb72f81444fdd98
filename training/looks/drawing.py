"""Drawings: lines and hatching on paper, board and blueprint."""

from __future__ import annotations

import torch
from torch import Tensor

from training import filters as f
from training import strokes as s


def pencil(x: Tensor) -> Tensor:
    """Graphite: soft contour lines, hatching in two directions that grows with the darkness, light paper."""
    way = s.direction(x)
    luma = f.blur(f.luminance(x), 0.7)
    tone = f.contrast(luma, 3.5)
    dodge = torch.tanh(2.8 * torch.relu(0.97 - (luma + 0.06) / (f.haze(luma, 6.0) + 0.06)))
    line = s.ink_lines(x, way, 0.9, 22.0)
    first = torch.relu(0.72 - tone) * (0.55 + 0.45 * s.hatching(x, 2, 1))
    second = torch.relu(0.42 - tone) * (0.6 + 0.6 * s.hatching(x, 2, -1))
    dark = 0.75 * line + 0.5 * dodge + 0.8 * first + 0.8 * second
    return f.mix(f.colour(x, 0.96, 0.95, 0.93), f.colour(x, 0.17, 0.17, 0.19), dark.clamp(0, 1))


def charcoal(x: Tensor) -> Tensor:
    """Charcoal: broad smeared blacks that break up on the paper's tooth, heavy contours, rubbed greys."""
    way = s.direction(x)
    smear = s.along(f.blur(f.luminance(x), 1.6), way, 7.0)
    tone = f.contrast(smear + 0.3 * (smear - f.haze(smear, 12.0)), 7.0, 0.4)
    line = s.ink_lines(x, way, 2.0, 20.0, 0.008)
    dark = (1 - tone).clamp(0, 1) * 0.9 + 0.8 * line
    grain = 0.3 * s.tooth(x) * (dark * (1.25 - dark)).clamp(0, 0.4) * 2.5
    return f.mix(f.colour(x, 0.93, 0.91, 0.87), f.colour(x, 0.04, 0.04, 0.05), (dark + grain).clamp(0, 1))


def ink(x: Tensor) -> Tensor:
    """Pen and brush: pure black lines and solid shadows on white."""
    way = s.direction(x)
    line = s.ink_lines(x, way, 1.2, 55.0, 0.009)
    luma = f.kuwahara(f.luminance(x), 3)
    shadow = f.soft_step(-s.along(luma, way, 3.0), -0.2, 0.018)
    pattern = 0.5 + 0.5 * s.hatching(x, 1, 1)
    half = f.soft_step(torch.relu(0.44 - luma) * 1.9 + 0.25 * pattern, 0.42, 0.05)
    dark = 1 - (1 - line) * (1 - shadow) * (1 - half)
    return f.mix(f.colour(x, 1.0, 1.0, 1.0), f.colour(x, 0.02, 0.02, 0.05), dark)


def crayon(x: Tensor) -> Tensor:
    """Coloured pencils: bright strokes along the forms that leave white paper between them, coloured contours."""
    way = s.direction(x, 8.0)
    colour = f.saturate(f.kuwahara(x, 4), 1.9)
    wave = s.grating(x, way, s.FINE, 14.0)
    cover = 1.25 - 0.85 * f.luminance(colour)
    stroke = f.soft_step(cover + 0.3 * wave, 0.62, 0.1)
    line = s.ink_lines(x, way, 1.1, 26.0)
    wax = (0.12 + 0.88 * colour) * (1 - 0.1 * wave).clamp(0, 1.1)
    drawn = f.mix(f.colour(x, 0.99, 0.98, 0.95), wax.clamp(0, 1), 0.12 + 0.88 * stroke)
    return (drawn * (1 - 0.85 * line) + 0.3 * colour * line).clamp(0, 1)


def chalk(x: Tensor) -> Tensor:
    """Blackboard: white and pastel chalk, rough on a dark green board, bright where the picture is bright."""
    way = s.direction(x)
    luma = f.luminance(x)
    tone = f.contrast(f.blur(luma, 1.2) + 0.3 * (luma - f.haze(luma, 8.0)), 6.0, 0.55).clamp(0, 1)
    light = s.inked(-s.contours(x, way, 1.4), 40.0)
    rough = 0.5 + 0.32 * s.tooth(x) + 0.18 * s.grating(x, way, s.FINE)
    rubbed = f.soft_step(0.95 * tone + 0.75 * (rough - 0.5), 0.52, 0.11)
    cover = (0.85 * rubbed + light * (0.75 + 0.25 * rough)).clamp(0, 1)
    pastel = 0.62 + 0.38 * f.saturate(f.blur(x, 2.0), 2.4)
    board = f.colour(x, 0.09, 0.17, 0.14) * (0.85 + 0.3 * f.haze(luma, 12.0))
    return f.mix(board, pastel.clamp(0, 1), cover)


def blueprint(x: Tensor) -> Tensor:
    """White drawing lines, a faint grid and faint shading on blue paper."""
    contour = s.contours(x, s.direction(x), 1.0)
    line = (s.inked(contour, 45.0) + 0.3 * s.inked(-contour, 25.0)).clamp(0, 1)
    shade = f.haze(f.luminance(x), 4.0)
    axis = torch.arange(8)
    grid = f.tile(((axis[:, None] == 0) | (axis[None] == 0)).float(), x)
    base = f.colour(x, 0.05, 0.2, 0.52) * (0.72 + 0.5 * shade) + 0.06 * grid
    return f.mix(base, f.colour(x, 0.9, 0.96, 1.0), line)
