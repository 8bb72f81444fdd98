"""Procedural pictures, as batched torch operations.

`scene` draws the small world that the model can paint from a prompt alone: 27 subjects, each a function of a batch size, a side
length and a torch.Generator, returning (N, 3, S, S) in [0, 1]. `leaves`, `landscape` and `portrait` are sources of the same kind
without a name: edges of all sizes, towns, faces.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from training.scenes import land, pattern, space, water, weather
from training.scenes.base import colours, uniform
from training.scenes.leaves import leaves
from training.scenes.portrait import portrait
from training.scenes.town import landscape

Maker = Callable[[int, int, Generator], Tensor]

SUBJECTS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        water.clouds, water.sea, land.mountains, land.forest, land.desert, land.river, water.island, water.sunset, land.snow,
        land.field, land.volcano, weather.aurora, weather.rain, weather.lightning, weather.fire, space.city, space.planet,
        space.galaxy, space.moon, space.flowers, water.underwater, pattern.waves, pattern.stripes, pattern.circles,
        pattern.marble, pattern.spiral, pattern.checks,
    )
}  # fmt: skip


def scene(n: int, side: int, rng: Generator, subjects: tuple[str, ...] = tuple(SUBJECTS)) -> tuple[Tensor, list[str]]:
    """Pictures (N, 3, S, S) in [0, 1] of random subjects, and their names."""
    names = [subjects[k] for k in torch.randint(0, len(subjects), (n,), generator=rng).tolist()]
    return torch.cat([SUBJECTS[name](1, side, rng) for name in names]), names


def scenery(n: int, side: int, rng: Generator) -> Tensor:
    """`scene` without the names, as a source of pictures."""
    return scene(n, side, rng)[0]


__all__ = ["SUBJECTS", "colours", "landscape", "leaves", "portrait", "scene", "scenery", "uniform"]
