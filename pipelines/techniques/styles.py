"""Styles of the painter: which one a prompt names, and how styles mix. Knows no network (pipelines/networks/painter.py has it).

A painted style is N numbers, the scales and shifts of the painter's normalisations (Dumoulin, Shlens, Kudlur: "A learned
representation for artistic style", arXiv 1610.07629). Styles mix by mixing their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.values.picture_style import TONE
from pipelines.values.vocabulary import UNDERPAINTING, PaintedLook


def with_tone(numbers: Tensor) -> Tensor:
    """[..., N] to [..., N + TONE]: styles without a tone, where one is expected."""
    return torch.cat([numbers, numbers.new_zeros(*numbers.shape[:-1], TONE)], dim=-1)


@dataclass(frozen=True, slots=True, eq=False)
class Style:
    """numbers: [N], float32. amount: 0 leaves the decoder's picture as it is, 1 is the painter's picture."""

    numbers: Tensor
    amount: float = 1.0


def mixed(*parts: tuple[Style | None, float]) -> Style | None:
    """The weighted mix of styles; weights sum to 1, None counts as no paint. Numbers are weighted by the amount of paint, so a
    mix with an unpainted picture fades the paint and keeps its style. None if nothing is painted.
    """
    present = [(style, style.amount * weight) for style, weight in parts if style is not None and style.amount * weight > 0.0]
    if not present:
        return None
    amount = sum(share for _, share in present)
    numbers = torch.stack([style.numbers * (share / amount) for style, share in present]).sum(0)
    return Style(numbers, min(amount, 1.0))


WHOLE = 0.6
"""From this `picture.scale` on, which is its default, a picture's style is all there is; below, the words' style has the rest."""


def beside(words: str, style: Style | None, named: Sequence[Tensor]) -> tuple[str, Style]:
    """(words for the text encoder, style) where styles, [N + TONE] each, are named beside the words. The style that the
    words have counts as one of them; words without one lie over the picture below the paint."""
    parts = [Style(numbers) for numbers in named] + ([style] if style is not None else [])
    found = mixed(*((part, 1.0 / len(parts)) for part in parts))
    assert found is not None
    if style is None:
        words = ", ".join(dict.fromkeys([UNDERPAINTING, *filter(None, words.split(", "))]))
    return words, found


def of_pictures(first: Style | None, second: Style | None, blend: float) -> Style | None:
    """The styles of two pictures, mixed: blend 0 is the first, 1 the second. One alone is all there is, whatever the blend."""
    if first is None or second is None:
        return first or second
    return mixed((first, 1.0 - blend), (second, blend))


def with_picture(words: Style | None, picture: Style | None, scale: float) -> Style | None:
    """The words' style and a picture's, mixed as `picture.scale` says. Where the words name no painted look, the picture's, with
    less paint below WHOLE."""
    if picture is None or scale == 0.0:
        return words
    share = min(scale / WHOLE, 1.0)
    return mixed((words, 1.0 - share), (picture, share))


class StyleBook:
    """Reads painted looks out of prompts.

    looks: what prompts may name. table: [S, N], the numbers of the painter's own styles, which looks mix.
    """

    def __init__(self, looks: Sequence[PaintedLook] = (), table: Tensor | None = None) -> None:
        self._looks = {look.prompt.casefold(): look for look in looks} if table is not None else {}
        self._table = torch.zeros(0, 0) if table is None else table.float()
        names = sorted(self._looks, key=len, reverse=True)  # the longest first: "ink wash" before "ink"
        self._named = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)") if names else None

    def __bool__(self) -> bool:
        return self._named is not None

    def read(self, prompt: str) -> tuple[str, Style | None]:
        """(the words for the text encoder, the style). A look's name is replaced by the look that it is painted over; several
        looks mix in equal shares. A prompt that names none is returned as it is."""
        folded = prompt.casefold()
        if self._named is None or len(folded) != len(prompt):  # a folded letter that changes length: no positions to cut at
            return prompt, None
        found = [(match, self._looks[match.group()]) for match in self._named.finditer(folded)]
        if not found:
            return prompt, None
        kept, at = [], 0
        for match, _ in found:
            kept.append(prompt[at : match.start()])
            at = match.end()
        words = [piece.strip() for piece in "".join([*kept, prompt[at:]]).split(",")]
        words = [*dict.fromkeys(look.over for _, look in found), *(piece for piece in words if piece)]
        return ", ".join(words), mixed(*((self._style(look), 1.0 / len(found)) for _, look in found))

    def _style(self, look: PaintedLook) -> Style:
        if look.made is not None:
            return Style(with_tone(torch.from_numpy(look.made.numbers)))
        return Style(torch.stack([self._table[index] * weight for index, weight in look.paint]).sum(0))
