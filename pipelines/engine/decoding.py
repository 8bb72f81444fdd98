"""The last stage of a step: finished latents to pictures, painted where the prompt names a painted look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pipelines.engine.device import Transfer
from pipelines.engine.feedback import Feedback
from pipelines.engine.levels import stack
from pipelines.graphs.graphs import GraphKey, Graphs
from pipelines.techniques import paint_strength
from pipelines.techniques.styles import Style
from pipelines.values.types import HostPicture, Picture, Pixels

Safety = Callable[[Sequence[Pixels]], Sequence[bool]]
"""For pictures, uint8 [height, width, 3] each: whether each is to be hidden."""


@dataclass(frozen=True, slots=True)
class FinishedLatent:
    """A latent [C, h, w] that is done, and the style to paint it in; style None or amount 0 leaves it unpainted. strength: at
    which it was made. feedback: takes the picture, and gives it as it is answered."""

    latent: Tensor
    style: Style | None = None
    strength: float = paint_strength.FULL
    feedback: Feedback | None = None

    @property
    def painted(self) -> bool:
        return self.style is not None and self.style.amount > 0.0


class PictureDecoder:
    """Runs decoder and painter. Painted and unpainted pictures of one step take one call each."""

    def __init__(self, graphs: Graphs, transfer: Transfer, safety: Safety | None) -> None:
        self._graphs, self._transfer, self._safety = graphs, transfer, safety

    def __call__(self, finished: Sequence[FinishedLatent]) -> list[Picture]:
        """The pictures in order; still on their way on a GPU. Until the painter's graph is ready they come without paint."""
        if not finished:
            return []
        order = sorted(range(len(finished)), key=lambda index: self.paints(finished[index]))
        plain = [finished[index] for index in order if not self.paints(finished[index])]
        painted = [finished[index] for index in order[len(plain) :]]
        with self._transfer.lane("decode", *(one.latent for one in finished)):
            made = [run(group) for run, group in ((self._decoded, plain), (self._painted, painted)) if group]
            answered = _fed_back(made[0] if len(made) == 1 else torch.cat(made), [finished[index].feedback for index in order])
            pictures = self._transfer.download(answered)
        if self._safety is not None:
            pictures = _hidden(self._safety, pictures, [finished[index].feedback for index in order])
        places = {index: place for place, index in enumerate(order)}
        return [pictures[places[index]] for index in range(len(finished))]

    def paints(self, finished: FinishedLatent) -> bool:
        """Whether a picture is going to be painted."""
        return finished.painted and self._graphs.ready(GraphKey("paint", 1))

    def _decoded(self, finished: Sequence[FinishedLatent]) -> Tensor:
        """uint8 [B, H, W, 3]"""
        return self._graphs.run("decode", (stack([one.latent for one in finished]),))[0]

    def _painted(self, finished: Sequence[FinishedLatent]) -> Tensor:
        """uint8 [B, H, W, 3]"""
        styles = [(one.style, one.strength) for one in finished if one.style is not None]
        amount = torch.tensor([style.amount * paint_strength.amount(strength) for style, strength in styles])
        softness = torch.tensor([paint_strength.softness(strength) for _, strength in styles])
        numbers = stack([paint_strength.freed(style.numbers, self._mean_style, strength) for style, strength in styles])
        latents = stack([one.latent for one in finished])
        to_device = self._transfer.to_device
        return self._graphs.run("paint", (latents, numbers, to_device(amount), to_device(softness)))[0]

    @cached_property
    def _mean_style(self) -> Tensor:
        """[N], of the painter's own styles."""
        return self._transfer.to_device(self._graphs.parts.plain_styles.mean(0))


def _fed_back(made: Tensor, feedbacks: Sequence[Feedback | None]) -> Tensor:
    """Pictures uint8 [B, H, W, 3] with what each takes from its session's last answer."""
    if all(feedback is None for feedback in feedbacks):
        return made
    return stack([row if feedback is None else feedback(row) for row, feedback in zip(made, feedbacks, strict=True)])


def _hidden(safety: Safety, pictures: Sequence[Picture], feedbacks: Sequence[Feedback | None]) -> list[Picture]:
    """The pictures, black where the safety checker hides one. It reads every picture, so this waits for a GPU."""
    seen = [picture.numpy() for picture in pictures]
    hides = safety(seen)
    for hide, feedback in zip(hides, feedbacks, strict=True):
        if hide and feedback is not None:
            feedback.forget()
    return [HostPicture(np.zeros_like(one) if hide else one) for one, hide in zip(seen, hides, strict=True)]
