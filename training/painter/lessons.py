"""What a step of the painter's training shows: rows of windows with a look each, and what the teacher paints of them.

Every lesson follows from (seed, step) alone, so a resumed run goes on exactly where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import openvino
import torch
from torch import Tensor

from pipelines.networks.painter import Painter
from training.painter import crops
from training.painter.crops import Photograph

SHIFTS = 8
"""A window is taken at a random place of this many pixels within what the teacher painted, so that neither its grid nor the
trunk's can be learnt."""

Kind = Literal["published", "painting", "photograph"]


@dataclass(frozen=True)
class Looks:
    """All looks of the trunk in the order of its styles: the photograph itself, the teacher's mixtures, paintings."""

    published: tuple[str, ...]
    paintings: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        return ["photograph", *self.published, *self.paintings]

    def rows(self, kind: Kind) -> range:
        first = 1 + len(self.published)
        return {"photograph": range(1), "published": range(1, first), "painting": range(first, first + len(self.paintings))}[kind]


@dataclass(frozen=True)
class Lesson:
    """inputs, clean: [B, 3, S, S] in [-1, 1]; looks [B]; target [P, 3, S, S] of the first P rows, which are the published ones.

    The next rows are paintings, then photographs. `pairs` says whether the second half of the rows repeats the first, moved;
    moved [B, 2] is by how many pixels each window lies right and below its scene's corner.
    """

    inputs: Tensor
    clean: Tensor
    looks: Tensor
    target: Tensor
    paintings: int
    pairs: bool
    moved: Tensor


class Teacher:
    """The published network on one thread, at one size."""

    def __init__(self, painter: Painter, side: int) -> None:
        example = (torch.zeros(1, 3, side, side), torch.zeros(1, painter.style_numbers))
        model: Any = openvino.convert_model(painter.float().eval(), example_input=example)
        model.reshape({0: [1, 3, side, side], 1: [1, painter.style_numbers]})
        self.graph = openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"})
        self.numbers = {look: painter.style(look)[None].float().numpy() for look in painter.config["looks"]}

    def paint(self, picture: Tensor, look: str) -> Tensor:
        """[3, S, S] to [3, S, S]."""
        return torch.from_numpy(self.graph([picture[None].contiguous().numpy(), self.numbers[look]])[0][0].copy())


@dataclass(frozen=True)
class Class:
    """Where lessons come from: clean photographs, those that pocket repainted, the teacher, the looks."""

    photographs: list[Photograph]
    repainted: list[Photograph]
    teacher: Teacher
    looks: Looks
    side: int

    def lesson(self, seed: int, step: int, counts: dict[Kind, int], pairs: bool) -> Lesson:
        """counts: rows of each kind; with `pairs` each row comes twice, moved and with another noise."""
        rng = np.random.default_rng([seed, step])
        kinds: list[Kind] = [kind for kind in ("published", "painting", "photograph") for _ in range(counts.get(kind, 0))]
        looks = [int(rng.choice(self.looks.rows(kind))) for kind in kinds]
        scenes = [self._scene(rng, kind) for kind in kinds]
        painted = [
            self.teacher.paint(clean, self.looks.names[look])
            for kind, look, (clean, _) in zip(kinds, looks, scenes, strict=True)
            if kind == "published"
        ]
        copies = 2 if pairs else 1
        groups = [[k for k, own in enumerate(kinds) if own == kind] for kind in ("published", "painting", "photograph")]
        order = [k for group in groups for k in group * copies]
        moved = rng.integers(0, SHIFTS, (len(order), 2))
        inputs = torch.stack([self._cut(scenes[k][1], place) for k, place in zip(order, moved, strict=True)])
        clean = torch.stack([self._cut(scenes[k][0], place) for k, place in zip(order, moved, strict=True)])
        target = [self._cut(painted[k], place) for k, place in zip(order, moved, strict=True) if kinds[k] == "published"]
        return Lesson(
            crops.noisy(inputs, rng),
            clean,
            torch.tensor([looks[k] for k in order]),
            torch.stack(target) if target else clean[:0],
            copies * counts.get("painting", 0),
            pairs,
            torch.from_numpy(moved),
        )

    def _scene(self, rng: np.random.Generator, kind: Kind) -> tuple[Tensor, Tensor]:
        """(clean, input), [3, S + SHIFTS, S + SHIFTS]; a third of painted rows look as pocket's decoder gives them."""
        degraded = kind != "photograph" and bool(self.repainted) and rng.random() < 0.35
        pool = self.repainted if degraded else self.photographs
        pair = crops.window(pool[rng.integers(len(pool))], self.side + SHIFTS, rng, degraded)
        clean, given = crops.tensor(list(pair))
        return clean, given

    def _cut(self, picture: Tensor, place: np.ndarray[Any, Any]) -> Tensor:
        y, x = (int(v) for v in place)
        return picture[:, y : y + self.side, x : x + self.side]
