"""What a step of the painter's training shows: rows of windows with a look each, and what the teacher paints of them.

Every lesson follows from (seed, step) alone, so a resumed run goes on exactly where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from training.painter import crops
from training.painter.crops import Photograph

SHIFTS = 8
"""A window is taken at a random place of this many pixels within what the teacher painted, so that neither its grid nor the
trunk's can be learnt."""

GRID = 4
"""Pixels from one of the teacher's features to the next. Every other window keeps to it, and can be hinted at."""

Kind = Literal["published", "painting"]


class Studied(Protocol):
    """A teacher as `training.painter.teacher.Teacher` is one."""

    def study(self, picture: Tensor, look: str) -> list[Tensor]:
        """[3, S, S] to the painted picture and features [C, S/4, S/4]."""


@dataclass(frozen=True)
class Looks:
    """All looks of the trunk: the teacher's mixtures of its rows of styles, then paintings with a row each."""

    published: Mapping[str, Mapping[str, float]]
    rows: int  # of the teacher's own styles
    paintings: tuple[str, ...]

    @property
    def mixtures(self) -> dict[str, dict[str, float]]:
        """name -> {row of the trunk's styles: share}"""
        own = {name: {str(self.rows + k): 1.0} for k, name in enumerate(self.paintings)}
        return {**{name: dict(shares) for name, shares in self.published.items()}, **own}

    @property
    def names(self) -> list[str]:
        return [*self.published, *self.paintings]

    @property
    def styles(self) -> int:
        return self.rows + len(self.paintings)

    def shares(self) -> Tensor:
        """[looks, styles]: what each look mixes."""
        table = torch.zeros(len(self.names), self.styles)
        for k, shares in enumerate(self.mixtures.values()):
            for row, share in shares.items():
                table[k, int(row)] = share
        return table

    def of(self, kind: Kind) -> range:
        """Which looks these are."""
        first = len(self.published)
        return range(first) if kind == "published" else range(first, len(self.names))


@dataclass(frozen=True)
class Lesson:
    """inputs, given: [B, 3, S, S] in [-1, 1], with a sensor's noise and as the teacher saw them; looks [B].

    The first rows are published looks, P of them, the others paintings. target: [P, 3, S, S]. hints: features [H, C, S/4, S/4]
    of the rows `hinted` [H]. pairs: whether the second half of the rows of a kind repeats the first, moved; moved [B, 2] is by
    how many pixels each window lies right and below its scene's corner.
    """

    inputs: Tensor
    given: Tensor
    looks: Tensor
    target: Tensor
    hints: list[Tensor]
    hinted: Tensor
    pairs: bool
    moved: Tensor


@dataclass(frozen=True)
class Class:
    """Where lessons come from: clean photographs, those that pocket repainted, the teacher, the looks."""

    photographs: list[Photograph]
    repainted: list[Photograph]
    teacher: Studied
    looks: Looks
    side: int

    def lesson(self, seed: int, step: int, counts: dict[Kind, int], pairs: bool) -> Lesson:
        """counts: rows of each kind; with `pairs` each row comes twice, moved and each with another noise."""
        rng = np.random.default_rng([seed, step])
        kinds: list[Kind] = [kind for kind in ("published", "painting") for _ in range(counts.get(kind, 0))]
        looks = [int(rng.choice(self.looks.of(kind))) for kind in kinds]
        scenes = [self._scene(rng) for _ in kinds]
        published = counts.get("published", 0)
        studied = [self.teacher.study(scenes[k], self.looks.names[looks[k]]) for k in range(published)]
        copies = 2 if pairs else 1
        order = [*list(range(published)) * copies, *list(range(published, len(kinds))) * copies]
        moved = rng.integers(0, SHIFTS, (len(order), 2))
        moved = np.where(rng.random((len(order), 1)) < 0.5, moved // GRID * GRID, moved)
        given = torch.stack([self._cut(scenes[k], place) for k, place in zip(order, moved, strict=True)])
        rows = [(k, place) for k, place in zip(order, moved, strict=True) if k < published]
        hinted = [row for row, (_, place) in enumerate(rows) if not (place % GRID).any()]
        return Lesson(
            crops.noisy(given, rng) if pairs else given,
            given,
            torch.tensor([looks[k] for k in order]),
            torch.stack([self._cut(studied[k][0], place) for k, place in rows]) if rows else given[:0],
            self._hints(studied, [rows[row] for row in hinted]),
            torch.tensor(hinted, dtype=torch.long),
            pairs,
            torch.from_numpy(moved),
        )

    def _scene(self, rng: np.random.Generator) -> Tensor:
        """[3, S + SHIFTS, S + SHIFTS]; a third of them as pocket's decoder gives them."""
        degraded = bool(self.repainted) and rng.random() < 0.35
        pool = self.repainted if degraded else self.photographs
        return crops.tensor([crops.window(pool[rng.integers(len(pool))], self.side + SHIFTS, rng, degraded)])[0]

    def _cut(self, picture: Tensor, place: np.ndarray[Any, Any], grid: int = 1) -> Tensor:
        """The window at a place, of a picture or of features every `grid` pixels."""
        y, x = (int(v) // grid for v in place)
        side = self.side // grid
        return picture[:, y : y + side, x : x + side]

    def _hints(self, studied: list[list[Tensor]], rows: list[tuple[int, np.ndarray[Any, Any]]]) -> list[Tensor]:
        if not rows:
            return []
        blocks = range(1, len(studied[0]))
        return [torch.stack([self._cut(studied[k][block], place, GRID) for k, place in rows]) for block in blocks]
