"""The teacher: the target picture for a request. A request is the meaning of a prompt.

A request names a look and, each optional, a palette, a light, a texture, and how strongly it is meant.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from training import filters as f
from training.looks import LOOKS
from training.modifiers import LIGHT_LINES, LIGHTS, OUTLINES, PALETTES, SURFACES, TEXTURES, outlined

SLIGHTLY, PLAINLY, VERY = 0.5, 1.0, 1.5


@dataclass(frozen=True)
class Request:
    """The meaning of a prompt. Raises ValueError for unknown names, and intensities other than 0.5, 1 and 1.5."""

    look: str = "photo"
    intensity: float = PLAINLY
    palette: str | None = None
    light: str | None = None
    texture: str | None = None

    def __post_init__(self) -> None:
        for field, table in (("look", LOOKS), ("palette", PALETTES), ("light", LIGHTS), ("texture", TEXTURES)):
            value = getattr(self, field)
            if value not in table and (value is not None or field == "look"):
                raise ValueError(f"{field} is {value!r}, allowed: {', '.join(table)}")
        if self.intensity not in (SLIGHTLY, PLAINLY, VERY):
            raise ValueError(f"intensity is {self.intensity!r}, allowed: {SLIGHTLY}, {PLAINLY}, {VERY}")

    @property
    def modifiers(self) -> int:
        """How many of palette, light and texture are set."""
        return sum(value is not None for value in (self.palette, self.light, self.texture))


@torch.no_grad()
def teacher(x: Tensor, request: Request) -> Tensor:
    """Pictures (N, 3, H, W) in [0, 1], sides multiples of 8, changed according to `request`; same shape and range.

    "Slightly" is half way from the photograph to the look. "Very" is the look with its contrast, colours and detail pushed: going
    on along the straight line from the photograph would bring its colours back inverted.
    """
    y = LOOKS[request.look](x)
    if request.intensity == SLIGHTLY:
        y = f.mix(x, y, 0.5)
    elif request.intensity == VERY:
        y = _pushed(y)
    if request.light is not None:
        y = LIGHTS[request.light](y)
    if request.palette is not None:
        y = PALETTES[request.palette](y)
    if request.texture in OUTLINES:
        y = outlined(y, x, request.texture, request.look in LIGHT_LINES)
    elif request.texture is not None:
        y = SURFACES[request.texture](y)
    return y.clamp(0, 1)


def _pushed(y: Tensor) -> Tensor:
    detail = y + 0.6 * (y - f.blur(y, 2.0))
    return f.saturate(f.contrast(detail.clamp(0, 1), 3.5), 1.4)


def draw(rng: Generator, looks: tuple[str, ...] = tuple(LOOKS)) -> Request:
    """A random request: 60% a plain look, 22% one modifier, 8% two, 10% an intensity. The look is uniform among `looks`."""
    look = _pick(looks, rng)
    kind = float(torch.rand((), generator=rng))
    if kind < 0.6:
        return Request(look)
    if kind < 0.9:
        chosen = torch.randperm(3, generator=rng)[: 1 if kind < 0.82 else 2].tolist()
        tables = (PALETTES, LIGHTS, TEXTURES)
        palette, light, texture = (_pick(tuple(tables[k]), rng) if k in chosen else None for k in range(3))
        return Request(look, PLAINLY, palette, light, texture)
    if look == "photo":
        return Request(look)
    return Request(look, SLIGHTLY if float(torch.rand((), generator=rng)) < 0.5 else VERY)


def _pick(options: tuple[str, ...], rng: Generator) -> str:
    return options[int(torch.randint(0, len(options), (), generator=rng))]
