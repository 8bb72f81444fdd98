"""Finished latents to pictures: painted and plain ones in one step, and what the safety checker hides."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines.engine.decoding import FinishedLatent, PictureDecoder
from pipelines.engine.device import HostTransfer
from pipelines.graphs.keys import GraphKey
from pipelines.techniques.styles import Style
from pipelines.values.picture_style import TONE
from pipelines.values.types import Pixels

STYLE = Style(torch.ones(2 + TONE), 0.5)


class Graphs:
    """A decoder that paints a picture in the latent's number, and a painter that adds 100."""

    def __init__(self, ready: bool = True) -> None:
        self.calls: list[tuple[str, int]] = []
        self.taken: dict[str, tuple[Tensor, ...]] = {}
        self.parts = SimpleNamespace(plain_styles=torch.tensor([[0.0, 1.0], [1.0, 2.0]]))
        self._ready = ready

    def ready(self, key: GraphKey) -> bool:
        assert key == GraphKey("paint", 1)
        return self._ready

    def run(self, part: str, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        self.calls.append((part, inputs[0].shape[0]))
        self.taken[part] = inputs[1:]
        grey = inputs[0][:, 0, 0, 0] + (100 if part == "paint" else 0)
        return (grey.to(torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3).contiguous(),)


def latent(value: float) -> Tensor:
    return torch.full((4, 1, 1), value)


def greys(pictures: Sequence[object]) -> list[int]:
    return [int(picture.numpy()[0, 0, 0]) for picture in pictures]  # type: ignore[attr-defined]


FINISHED = [
    FinishedLatent(latent(1.0), STYLE),
    FinishedLatent(latent(2.0)),
    FinishedLatent(latent(3.0), Style(torch.ones(2 + TONE), 0.0)),
    FinishedLatent(latent(4.0), STYLE),
]


def test_painted_and_plain_pictures_take_a_call_each_and_come_in_order() -> None:
    graphs = Graphs()
    decode = PictureDecoder(graphs, HostTransfer(), None)  # type: ignore[arg-type]
    assert greys(decode(FINISHED)) == [101, 2, 3, 104]
    assert graphs.calls == [("decode", 2), ("paint", 2)]
    assert decode([]) == [] and len(graphs.calls) == 2


def test_until_the_painter_is_ready_pictures_come_without_paint() -> None:
    graphs = Graphs(ready=False)
    assert greys(PictureDecoder(graphs, HostTransfer(), None)(FINISHED)) == [1, 2, 3, 4]  # type: ignore[arg-type]
    assert graphs.calls == [("decode", 4)]


@pytest.mark.parametrize("hidden", [[], [0], [1, 3]])
def test_what_the_safety_checker_flags_is_black(hidden: list[int]) -> None:
    seen: list[int] = []

    def safety(pictures: Sequence[Pixels]) -> list[bool]:
        seen.extend(greys_of(pictures))
        return [place in hidden for place in range(len(pictures))]

    def greys_of(pictures: Sequence[Pixels]) -> list[int]:
        return [int(np.asarray(picture)[0, 0, 0]) for picture in pictures]

    graphs = Graphs(ready=False)
    shown = greys(PictureDecoder(graphs, HostTransfer(), safety)(FINISHED))  # type: ignore[arg-type]
    assert seen == [1, 2, 3, 4] and shown == [0 if place in hidden else place + 1 for place in range(4)]


def test_paint_follows_the_strength_of_each_picture() -> None:
    graphs = Graphs()
    decode = PictureDecoder(graphs, HostTransfer(), None)  # type: ignore[arg-type]
    decode([FinishedLatent(latent(1.0), STYLE, strength) for strength in (0.2, 0.5, 0.9)])
    numbers, amount, softness = graphs.taken["paint"]
    torch.testing.assert_close(amount, torch.tensor([0.2, 0.5, 0.5]))
    torch.testing.assert_close(softness, torch.tensor([0.0, 0.0, 3.0]))
    torch.testing.assert_close(numbers[:2], torch.ones(2, 2 + TONE))
    torch.testing.assert_close(numbers[2, :2], torch.tensor([1.25, 0.75]))  # away from (0.5, 1.5) by half of the distance
    torch.testing.assert_close(numbers[2, 2:], torch.ones(TONE))
