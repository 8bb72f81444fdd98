"""The last stage of a step: finished latents to pictures, painted where the prompt names a painted look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from pipelines.engine.composing import Layers
from pipelines.engine.device import Transfer
from pipelines.engine.feedback import Feedback
from pipelines.engine.levels import stack
from pipelines.engine.partial_memory import PartialPicture, composed
from pipelines.graphs.graphs import Graphs
from pipelines.graphs.keys import GraphKey
from pipelines.techniques import paint_strength
from pipelines.techniques.styles import Style
from pipelines.values.types import HostPicture, Picture, Pixels

Safety = Callable[[Sequence[Pixels]], Sequence[bool]]
"""For pictures, uint8 [height, width, 3] each: whether each is to be hidden."""

PARTS = ("decode", "decode-window", "paint", "paint-keeping", "paint-window")
"""The graphs that make pictures."""


@dataclass(frozen=True, slots=True)
class FinishedLatent:
    """A latent [C, h, w] that is done, and the style to paint it in; style None or amount 0 leaves it unpainted. strength: at
    which it was made. feedback: takes the picture, and gives it as it is answered. partial: where partial frames are on; it takes
    the picture as it is made. layers: styles that share the picture, instead of one."""

    latent: Tensor
    style: Style | None = None
    strength: float = paint_strength.FULL
    feedback: Feedback | None = None
    partial: PartialPicture | None = None
    layers: Layers = ()

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
        layered = [self.layers(one) for one in finished]
        single = [one for layers in layered for one in layers]
        parts = [self.part(one) for one in single]
        order = sorted(range(len(single)), key=lambda index: PARTS.index(parts[index]))
        places = {index: place for place, index in enumerate(order)}
        with self._transfer.lane("decode", *(one.latent for one in finished)):
            made = [
                self._made(part, [single[index] for index in order if parts[index] == part]) for part in PARTS if part in parts
            ]
            pixels = made[0] if len(made) == 1 else torch.cat(made)
            if len(single) > len(finished):
                rows = iter([pixels[places[index]] for index in range(len(single))])
                pixels = stack([together(one, list(islice(rows, len(of)))) for one, of in zip(finished, layered, strict=True)])
                order = list(range(len(finished)))
                places = {index: index for index in order}
            feedbacks = [finished[index].feedback for index in order]
            pictures = self._transfer.download(_fed_back(pixels, feedbacks))
        if self._safety is not None:
            pictures = _hidden(self._safety, pictures, feedbacks)
        return [pictures[places[index]] for index in range(len(finished))]

    def layers(self, finished: FinishedLatent) -> list[FinishedLatent]:
        """The pictures of which one is put together: one for each of its layers, or itself."""
        if not finished.layers or not self._graphs.ready(GraphKey("paint", 1)):
            return [finished]
        return [replace(finished, style=style, layers=()) for style, _ in finished.layers]

    def paints(self, finished: FinishedLatent) -> bool:
        """Whether a picture is going to be painted."""
        return finished.painted and self._graphs.ready(GraphKey("paint", 1))

    def part(self, finished: FinishedLatent) -> str:
        """The graph that makes a picture, one of PARTS."""
        plan = None if finished.partial is None else finished.partial.plan
        if plan is not None and plan.window is not None and plan.kept is not None:
            return "decode-window" if plan.kept.style is None else "paint-window"
        if not self.paints(finished):
            return "decode"
        return "paint-keeping" if plan is not None and plan.keeps else "paint"

    def _made(self, part: str, finished: Sequence[FinishedLatent]) -> Tensor:
        """The pictures of one graph, uint8 [B, H, W, 3]."""
        if part.startswith("decode"):
            pixels, *styles = self._graphs.run(part, (stack([one.latent for one in finished]),))
        else:
            pixels, *styles = self._painted(part, finished)
        if part.endswith("window"):
            pixels = stack([_whole(one, tile) for one, tile in zip(finished, pixels, strict=True)])
        for place, one in enumerate(finished):
            if one.partial is not None:
                one.partial.pixels = pixels[place]
                one.partial.style = styles[0][place] if styles else None
        return pixels

    def _painted(self, part: str, finished: Sequence[FinishedLatent]) -> tuple[Tensor, ...]:
        """The outputs of a graph with the painter."""
        styles = [(one.style, one.strength) for one in finished if one.style is not None]
        amount = torch.tensor([style.amount * paint_strength.amount(strength) for style, strength in styles])
        softness = torch.tensor([paint_strength.softness(strength) for _, strength in styles])
        numbers = stack([self._numbers(one) for one in finished])
        latents = stack([one.latent for one in finished])
        to_device = self._transfer.to_device
        return self._graphs.run(part, (latents, numbers, to_device(amount), to_device(softness)))

    def _numbers(self, finished: FinishedLatent) -> Tensor:
        """The style's numbers [N]; those of a window have statistics of the whole picture folded in."""
        plan = None if finished.partial is None else finished.partial.plan
        if plan is not None and plan.window is not None and plan.kept is not None:
            assert plan.kept.style is not None
            return plan.kept.style
        assert finished.style is not None
        return paint_strength.freed(finished.style.numbers, self._mean_style, finished.strength)

    @cached_property
    def _mean_style(self) -> Tensor:
        """[N], of the painter's own styles."""
        return self._transfer.to_device(self._graphs.parts.plain_styles.mean(0))


def _whole(finished: FinishedLatent, tile: Tensor) -> Tensor:
    """The kept picture with a window in its place."""
    plan = None if finished.partial is None else finished.partial.plan
    assert plan is not None and plan.window is not None and plan.kept is not None and plan.kept.picture is not None
    return composed(plan.kept.picture, tile, plan.window)


def together(finished: FinishedLatent, pictures: Sequence[Tensor]) -> Tensor:
    """The picture of all layers, uint8 [H, W, 3], from that of each."""
    if len(pictures) == 1:
        return pictures[0]
    shared = [share * picture for picture, (_, share) in zip(pictures, finished.layers, strict=True)]
    return sum(shared[1:], shared[0]).add_(0.5).to(torch.uint8)


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
