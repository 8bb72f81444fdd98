"""The long run: a trunk of our own learns the teacher's looks and paintings, in two stages of one resumable run.

Palette: colour and edges of the teacher's pictures. Strokes: also Gram matrices and features of HED, and paintings by those
alone. Every eighth step shows pairs of a moved scene, so that strokes stick to things.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines.networks.trunk import TrunkPainter
from training.loop import Average, Run, mixed
from training.painter import losses
from training.painter.hed import Features
from training.painter.lessons import Class, Kind, Lesson

PALETTE: dict[Kind, int] = {"published": 6, "photograph": 2}
STROKES: dict[Kind, int] = {"published": 5, "painting": 2, "photograph": 1}
PAIRS: dict[Kind, int] = {"published": 3, "painting": 1}
WINDOW = 128  # pixels of a published row that HED looks at; it looks at all of a painting's


@dataclass(frozen=True)
class Config:
    """steps, of which the first `palette` are without HED; side of a row in pixels; learning rate at its highest."""

    steps: int = 16000
    palette: int = 1200
    side: int = 192
    rate: float = 2e-3
    warm: int = 100
    every: int = 8  # steps from one lesson of pairs to the next
    seed: int = 0
    save_seconds: float = 600.0
    sheet_seconds: float = 900.0


class Trainer:
    """One run: network, optimiser, average, and the folder that they are kept in."""

    def __init__(self, config: Config, lessons: Class, hed: Features, paintings: list[list[Tensor]], run: Run) -> None:
        """paintings: the Gram matrices [C, C] of HED's four blocks, of each painting in the order of the looks."""
        torch.manual_seed(config.seed)
        self.config, self.lessons, self.hed, self.run = config, lessons, hed, run
        self.wanted = [torch.stack(block) for block in zip(*paintings, strict=True)]  # per block [paintings, C, C]
        self.model: Any = TrunkPainter(looks=lessons.looks.names).to(memory_format=torch.channels_last)
        self.model.styles.data.add_(0.1 * torch.randn_like(self.model.styles))
        numbers = {id(self.model.styles)}
        rest = [parameter for parameter in self.model.parameters() if id(parameter) not in numbers]
        groups = [
            {"params": rest, "scale": 1.0},
            {"params": [self.model.styles], "scale": 2.0},
        ]  # a style is met once in many steps
        self.optimiser = torch.optim.AdamW(groups, lr=config.rate, weight_decay=0.0, betas=(0.9, 0.99))
        self.average = Average(self.model, 0.999)
        self.step = 0
        state = run.load()
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.average.restore(state["average"])
            self.step = state["step"]

    def save(self) -> None:
        state = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(), "average": self.average.state()}
        self.run.save({**state, "step": self.step})

    def averaged(self) -> TrunkPainter:
        """The network with its averaged weights."""
        model = TrunkPainter(looks=self.lessons.looks.names)
        self.average.copy_to(model)
        return model.eval()

    def train(self, sheet: Any, seconds: float = math.inf) -> None:
        """To the end of the steps, or for so long. sheet: called with the averaged network and the step every while."""
        start = saved = shown = time.monotonic()
        while self.step < self.config.steps and time.monotonic() - start < seconds:
            values = self.once()
            self.step += 1
            if self.step % 20 == 0:
                self.run.log(step=self.step, **{name: round(float(value), 5) for name, value in values.items()})
            if time.monotonic() - saved > self.config.save_seconds:
                self.save()
                saved = time.monotonic()
            if time.monotonic() - shown > self.config.sheet_seconds:
                sheet(self.averaged(), self.step)
                shown = time.monotonic()
        self.save()
        sheet(self.averaged(), self.step)

    def once(self) -> dict[str, Tensor]:
        """One step; the losses."""
        self._rate()
        painting = self.step >= self.config.palette
        if self.step == self.config.palette:
            self._start_paintings()
        pairs = self.step % self.config.every == self.config.every - 1
        counts = (PAIRS if painting else {"published": 4}) if pairs else (STROKES if painting else PALETTE)
        lesson = self.lessons.lesson(self.config.seed, self.step, counts, pairs)  # type: ignore[arg-type]
        x = lesson.inputs.contiguous(memory_format=torch.channels_last)
        with mixed("cpu"):
            painted = self.model(x, self.model.styles[lesson.looks]).float()
        values = self._losses(lesson, painted, painting)
        total = torch.stack(list(values.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.average.update()
        return {name: value.detach() for name, value in {**values, "total": total}.items()}

    @torch.no_grad()
    def _start_paintings(self) -> None:
        """Their numbers start from the mean of the looks that are learnt by then."""
        known, own = self.lessons.looks.rows("published"), self.lessons.looks.rows("painting")
        for styles in (self.model.styles, self.average.shadow[self._styles]):
            styles[own.start : own.stop] = styles[known.start : known.stop].mean(0)

    @property
    def _styles(self) -> int:
        """Which of the parameters the styles are."""
        return [parameter is self.model.styles for parameter in self.model.parameters()].index(True)

    def _rate(self) -> None:
        """Rises for `warm` steps, falls as a cosine to a fiftieth."""
        done = self.step / self.config.steps
        rate = (
            self.config.rate * min(1.0, (self.step + 1) / self.config.warm) * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
        )
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["scale"]

    def _losses(self, lesson: Lesson, painted: Tensor, painting: bool) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        published = len(lesson.target)
        ours, target = painted[:published], lesson.target
        values["colour"] = 2 * losses.colour(ours, target)
        values["edges"] = losses.edges(ours, target)
        rest = published + lesson.paintings
        if rest < len(painted):
            values["photograph"] = 2 * losses.colour(painted[rest:], lesson.clean[rest:]) + losses.edges(
                painted[rest:], lesson.clean[rest:]
            )
        if lesson.pairs:
            values["time"] = 0.5 * _unsteady(lesson, painted)
        if painting:
            values |= self._strokes(ours, target)
            values |= self._paintings(lesson, painted[published:rest])
        return values

    def _strokes(self, ours: Tensor, target: Tensor) -> dict[str, Tensor]:
        """A window of each row against the teacher's, in HED's first three blocks."""
        place = torch.Generator().manual_seed(self.step)
        y, x = (int(v) for v in torch.randint(0, self.config.side - WINDOW + 1, (2,), generator=place))
        cut = (slice(None), slice(None), slice(y, y + WINDOW), slice(x, x + WINDOW))
        with mixed("cpu"):
            found = self.hed(ours[cut])
            with torch.no_grad():
                wanted = self.hed(target[cut])
        style = losses.style(losses.grams(found), losses.grams(wanted))
        return {"style": 0.12 * style, "features": 0.12 * losses.features(found, wanted)}

    def _paintings(self, lesson: Lesson, ours: Tensor) -> dict[str, Tensor]:
        """Gram matrices of the painting in four blocks, content of the photograph in the third."""
        first = len(lesson.target)
        rows = lesson.looks[first : first + lesson.paintings] - self.lessons.looks.rows("painting").start
        with mixed("cpu"):
            found = self.hed(ours, 4)
            with torch.no_grad():
                wanted = self.hed(lesson.clean[first : first + lesson.paintings], 3)[2]
        style = losses.style(losses.grams(found), [block[rows] for block in self.wanted])
        return {"painting": 0.15 * style, "content": 0.25 * losses.content(found[2], wanted)}


def _unsteady(lesson: Lesson, painted: Tensor) -> Tensor:
    """Mean L1 between two pictures of one scene where they overlap; rows of a kind lie half and half."""
    terms = []
    for first, count in ((0, len(lesson.target)), (len(lesson.target), lesson.paintings)):
        for k in range(count // 2):
            a, b = first + k, first + count // 2 + k
            terms.append(_overlap(painted[a], painted[b], lesson.moved[a] - lesson.moved[b]))
    return torch.stack(terms).mean()


def _overlap(a: Tensor, b: Tensor, moved: Tensor) -> Tensor:
    """a lies `moved` pixels (down, right) of b."""
    dy, dx = (int(v) for v in moved)
    height, width = a.shape[1:]
    ours = a[:, max(-dy, 0) : height - max(dy, 0), max(-dx, 0) : width - max(dx, 0)]
    theirs = b[:, max(dy, 0) : height - max(-dy, 0), max(dx, 0) : width - max(-dx, 0)]
    return (ours - theirs).abs().mean()


def run_folder(runs: Path) -> Path:
    return runs / "painter/trunk"
