"""The long run: a trunk of our own learns the teacher's looks, then paintings, in one resumable run from nothing.

For the first steps colour, edges and hints are learnt: features of the teacher's blocks, which encode where strokes lie. Then
edges end, since the L1 of what is unpredictable is least for no stroke at all, and HED's Gram matrices and features begin.
Paintings, later, are learnt by Gram matrices and content alone. Some steps show pairs of a moved scene, so that strokes stick
to things.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.networks.trunk import TrunkPainter
from training.loop import Average, Run, channels_last, learning_rate, mixed
from training.painter import losses
from training.painter.hed import Features
from training.painter.lessons import Class, Kind, Lesson

HINTED = (2, 4)
"""Blocks of the trunk that hints are for, as `training.painter.teacher.HINTS` are the teacher's."""
HINT_CHANNELS = 32
WINDOW = 96  # pixels of a published row that HED gets; of a painting it gets all
LOGGED = 20  # steps that a line of the log is the mean of


@dataclass(frozen=True)
class Config:
    """steps, of which the first `palette` are without HED and those before `paintings` without paintings; side of a row in
    pixels; learning rate at its highest."""

    steps: int = 12000
    palette: int = 200
    paintings: int = 2000
    side: int = 160
    rate: float = 2e-3
    warm: int = 50
    seed: int = 0
    save_seconds: float = 240.0
    sheets: int = 1000  # steps from one sheet to the next; one more after 250 and 500

    def counts(self, step: int) -> tuple[dict[Kind, int], bool]:
        """Rows of each kind, and whether they come in pairs."""
        pairs, paintings = step % 8 == 5, step >= self.paintings and step % 4 in (1, 3)
        if pairs:
            return {"published": 1, "painting": 1} if paintings else {"published": 2}, True
        return {"published": 2, "painting": 2} if paintings else {"published": 4}, False


class Trainer:
    """One run: network, optimiser, average, and the folder that they are kept in."""

    def __init__(self, config: Config, lessons: Class, hed: Features, paintings: list[list[Tensor]], run: Run) -> None:
        """paintings: the Gram matrices [C, C] of HED's four blocks, of each painting in the order of the looks."""
        torch.manual_seed(config.seed)
        self.config, self.lessons, self.hed, self.run = config, lessons, hed, run
        self.wanted = [torch.stack(block) for block in zip(*paintings, strict=True)]  # per block [paintings, C, C]
        self.shares = lessons.looks.shares()
        self.model: Any = channels_last(self._network())
        self.model.styles.data.add_(0.1 * torch.randn_like(self.model.styles))
        width = self.model.config["channels"]
        self.hinters = nn.ModuleList(nn.Conv2d(width, HINT_CHANNELS, 1) for _ in HINTED)
        numbers = {id(self.model.styles)}
        rest = [parameter for parameter in self.model.parameters() if id(parameter) not in numbers]
        groups = [
            {"params": [*rest, *self.hinters.parameters()], "scale": 1.0},
            {"params": [self.model.styles], "scale": 2.0},
        ]  # a style is met once in many steps
        self.optimiser = torch.optim.AdamW(groups, lr=config.rate, weight_decay=0.0, betas=(0.9, 0.99))
        self.average = Average(self.model, 0.998)
        self.step = 0
        self._load()

    def _network(self) -> TrunkPainter:
        looks = self.lessons.looks
        return TrunkPainter(num_styles=looks.styles, looks=looks.mixtures)

    def _load(self) -> None:
        state = self.run.load()
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.hinters.load_state_dict(state["hinters"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.average.restore(state["average"])
            self.step = state["step"]

    def save(self) -> None:
        parts = {"model": self.model, "hinters": self.hinters, "optimiser": self.optimiser}
        state = {name: part.state_dict() for name, part in parts.items()}
        self.run.save({**state, "average": self.average.state(), "step": self.step})

    def averaged(self) -> TrunkPainter:
        """The network with its averaged weights."""
        model = self._network()
        self.average.copy_to(model)
        return model.eval()

    def train(self, sheet: Any, seconds: float = math.inf) -> None:
        """To the end of the steps, or for so long. sheet: called with the averaged network and the step every while."""
        start = saved = time.monotonic()
        sums: Counter[str] = Counter()
        while self.step < self.config.steps and time.monotonic() - start < seconds:
            values = self.once()
            sums.update({name: float(value) for name, value in values.items()})
            sums.update(f"{name} steps" for name in values)
            self.step += 1
            if self.step % LOGGED == 0:
                self.run.log(step=self.step, **{name: round(sums[name] / sums[f"{name} steps"], 5) for name in values})
                sums.clear()
            if time.monotonic() - saved > self.config.save_seconds:
                self.save()
                saved = time.monotonic()
            if self.step % self.config.sheets == 0 or self.step in (250, 500):
                sheet(self.averaged(), self.step)
        self.save()

    def once(self) -> dict[str, Tensor]:
        """One step; the losses."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["scale"] * learning_rate(self.step, self.config.steps, self.config.rate, self.config.warm)
        if self.step == self.config.paintings:
            self._start_paintings()
        lesson = self.lessons.lesson(self.config.seed, self.step, *self.config.counts(self.step))
        x = lesson.inputs.contiguous(memory_format=torch.channels_last)
        with mixed("cpu"):
            painted, features = self.model.features(x, self.shares[lesson.looks] @ self.model.styles)
        values = self._losses(lesson, painted.float(), features)
        total = torch.stack(list(values.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.average.update()
        return {name: value.detach() for name, value in {**values, "total": total}.items()}

    @torch.no_grad()
    def _start_paintings(self) -> None:
        """Their numbers start from the mean of the styles that are learnt by then."""
        known = self.lessons.looks.rows
        for styles in (self.model.styles, self.average.shadow[self._styles]):
            styles[known:] = styles[:known].mean(0)

    @property
    def _styles(self) -> int:
        """Which of the parameters the styles are."""
        return [parameter is self.model.styles for parameter in self.model.parameters()].index(True)

    def _losses(self, lesson: Lesson, painted: Tensor, features: list[Tensor]) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        ours, target = painted[: len(lesson.target)], lesson.target
        if self.step < self.config.palette:
            values["colour"] = 2 * losses.colour(ours, target)
            values["edges"] = losses.edges(ours, target)
        else:
            values["colour"] = losses.colour(ours, target)
            values |= self._strokes(ours, target)
        if lesson.hints:
            values["hints"] = 0.3 * self._hints(lesson, features)
        if lesson.pairs:
            values["time"] = 0.5 * _unsteady(lesson, painted)
        if len(painted) > len(target):
            values |= self._paintings(lesson, painted[len(target) :])
        return values

    def _hints(self, lesson: Lesson, features: list[Tensor]) -> Tensor:
        """The teacher's features from ours by a 1x1 convolution, as a share of their power."""
        with mixed("cpu"):
            guesses = [hinter(features[k][lesson.hinted]) for hinter, k in zip(self.hinters, HINTED, strict=True)]
        return torch.stack([losses.content(a, b) for a, b in zip(guesses, lesson.hints, strict=True)]).sum()

    def _strokes(self, ours: Tensor, target: Tensor) -> dict[str, Tensor]:
        """A window of each row against the teacher's, in two or, every other step, three of HED's blocks."""
        place = torch.Generator().manual_seed(self.step)
        y, x = (int(v) for v in torch.randint(0, self.config.side - WINDOW + 1, (2,), generator=place))
        cut = (slice(None), slice(None), slice(y, y + WINDOW), slice(x, x + WINDOW))
        blocks = 2 + self.step % 2
        with mixed("cpu"):
            found = self.hed(ours[cut], blocks)
            with torch.no_grad():
                wanted = self.hed(target[cut], blocks)
        style = losses.style(losses.grams(found), losses.grams(wanted))
        return {"style": 0.3 * style, "features": 0.2 * losses.features(found, wanted)}

    def _paintings(self, lesson: Lesson, ours: Tensor) -> dict[str, Tensor]:
        """Gram matrices of the painting in four blocks, content of the photograph in the third."""
        first = len(lesson.target)
        rows = lesson.looks[first:] - self.lessons.looks.of("painting").start
        with mixed("cpu"):
            found = self.hed(ours, 4)
            with torch.no_grad():
                wanted = self.hed(lesson.given[first:], 3)[2]
        style = losses.style(losses.grams(found), [block[rows] for block in self.wanted])
        return {"painting": 0.15 * style, "content": 0.25 * losses.content(found[2], wanted)}


def _unsteady(lesson: Lesson, painted: Tensor) -> Tensor:
    """Mean L1 between two pictures of one scene where they overlap; rows of a kind lie half and half."""
    terms = []
    published = len(lesson.target)
    for first, count in ((0, published), (published, len(painted) - published)):
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
