"""Fits the numbers of a painter's style to a picture: what it paints shall have the picture's Gram matrices.

Gatys, Ecker, Bethge 2015 (arXiv:1508.06576) fit pixels to such a loss, Dumoulin et al. 2016 (arXiv:1610.07629) the numbers of a
new style with the convolutions as they are, which is what is done here. Runs on one thread of whoever calls `step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.networks.texture import Texture, gram
from pipelines.values.types import Pixels

STEPS = 180
CHECK_EVERY = 15
"""Steps between two looks at a window that is not fitted to, which say whether the numbers are better than the best so far."""
SIZES = (1.0, 0.5)
"""Sizes at which textures are compared; the smaller one sees larger strokes."""
FIRST_BLOCK = 0.3
"""Weight of the first block, which sees grain; that of the others is 1."""


@dataclass(frozen=True, slots=True)
class Plan:
    """side: pixels of a window that is painted. rate: of the first step, in deviations of the known styles' numbers; it falls to
    a tenth. content: how much what is seen counts beside how it is painted. half: computed in bfloat16 where that may be."""

    steps: int = STEPS
    side: int = 160
    rate: float = 0.25
    content: float = 0.25
    seed: int = 0
    half: bool = True


class StyleFit:
    """One fit. best: the best numbers so far, [N]; gain: how much their distance to the picture is below the start's, 0 to 1."""

    def __init__(
        self,
        painter: nn.Module,
        texture: Texture,
        known: Tensor,
        start: Tensor,
        picture: Tensor,
        contents: Sequence[Pixels],
        plan: Plan = Plan(),
    ) -> None:
        """painter, texture: in float32, frozen. known: [S, N], numbers of other styles, whose spread is the unit of a step.
        start: [N]. picture: [1, 3, H, W] in [-1, 1]. contents: photographs, uint8 [height, width, 3], at least `plan.side`."""
        self.plan, self.done, self.gain = plan, 0, 0.0
        self.best = start.clone()
        self._painter = painter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._texture = texture.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._start, self._spread = start, known.std(0)
        self._moved = torch.zeros_like(start, requires_grad=True)
        self._optimiser = torch.optim.Adam([self._moved], lr=plan.rate, betas=(0.9, 0.99))
        self._contents, self._rng = contents, np.random.default_rng(plan.seed)
        with torch.no_grad():
            self._wanted = [[gram(feature) for feature in texture(_sized(picture, size))] for size in SIZES]
        self._check = [self._window(0), self._window(len(contents) // 2)]
        self._first = self._least = self._distance(start)

    @property
    def over(self) -> bool:
        return self.done >= self.plan.steps

    def step(self) -> None:
        """One step of the optimiser, and now and then a look at whether the numbers are better."""
        share = self.done / self.plan.steps
        for group in self._optimiser.param_groups:
            group["lr"] = self.plan.rate * (1 - 0.9 * share)
        window = self._window(self.done)
        with torch.enable_grad():
            loss = self._loss(window, self._numbers())
            self._optimiser.zero_grad()
            loss.backward()
        self._optimiser.step()
        self.done += 1
        if self.done % CHECK_EVERY == 0 or self.over:
            self._look()

    def _look(self) -> None:
        numbers = self._numbers().detach()
        distance = self._distance(numbers)
        if distance < self._least:
            self._least, self.best = distance, numbers.clone()
            self.gain = 1 - self._least / self._first

    def _numbers(self) -> Tensor:
        return self._start + self._spread * self._moved

    @torch.no_grad()
    def _distance(self, numbers: Tensor) -> float:
        """Of the style alone, on windows that are not fitted to. Infinite for numbers that paint nothing."""
        terms = [self._style(self._painted(window, numbers)) for window in self._check]
        found = float(torch.stack(terms).mean())
        return found if np.isfinite(found) else float("inf")

    def _loss(self, window: Tensor, numbers: Tensor) -> Tensor:
        painted = self._painted(window, numbers)
        with torch.no_grad():
            seen = self._texture(window)[-1]
        content = F.mse_loss(F.instance_norm(painted[0][-1].float()), F.instance_norm(seen.float()))
        return self._style(painted) + self.plan.content * content

    def _painted(self, window: Tensor, numbers: Tensor) -> list[list[Tensor]]:
        """Features of the painted window, by size and block."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.plan.half):
            painted = self._painter(window, numbers[None])
            return [self._texture(_sized(painted, size)) for size in SIZES]

    def _style(self, features: Sequence[Sequence[Tensor]]) -> Tensor:
        terms = [
            (1.0 if block else FIRST_BLOCK) * _apart(gram(feature), wanted)
            for found, wants in zip(features, self._wanted, strict=True)
            for block, (feature, wanted) in enumerate(zip(found, wants, strict=True))
        ]
        return torch.stack(terms).sum()

    def _window(self, index: int) -> Tensor:
        content, side = self._contents[index % len(self._contents)], self.plan.side
        y, x = (int(self._rng.integers(0, length - side + 1)) for length in content.shape[:2])
        part = torch.from_numpy(np.ascontiguousarray(content[y : y + side, x : x + side])).permute(2, 0, 1)[None]
        return (part.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def _apart(found: Tensor, wanted: Tensor) -> Tensor:
    """log(1 + the squared distance of Gram matrices as a share of the wanted one's own size)."""
    return torch.log1p((found - wanted).square().sum() / wanted.square().sum().clamp_min(1e-6))


def _sized(picture: Tensor, size: float) -> Tensor:
    return picture if size == 1.0 else F.interpolate(picture, scale_factor=size, mode="area")
