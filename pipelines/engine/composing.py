"""Composed prompts (techniques/regions.py) in the engine: which rows a frame takes for one, and what is painted where.

Parts whose words for the text encoder are equal share a row: looks that are painted over the same picture differ in paint alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.techniques import regions, styles
from pipelines.techniques.conditioning import PromptCache, Read, Text
from pipelines.techniques.noise import ToDevice
from pipelines.techniques.regions import Part
from pipelines.techniques.styles import Style
from pipelines.values.settings import Settings

Layers = tuple[tuple[Style | None, Tensor], ...]
"""Styles, None for no paint, each with its share of every pixel, [H, W, 1]. Empty where the picture has one style."""

REMEMBERED = 32


@dataclass(frozen=True, slots=True, eq=False)
class Composed:
    """texts: one for each row. shares: of the rows, [R, 1, h, w]; None for one row. parts, styles: of the prompt's parts."""

    texts: tuple[Text, ...]
    shares: Tensor | None
    parts: tuple[Part, ...]
    styles: tuple[Style | None, ...]


class Composer:
    """Of one pipeline. size: of the pictures, (width, height)."""

    def __init__(self, parts: ModelParts, prompts: PromptCache, size: tuple[int, int], to_device: ToDevice) -> None:
        self._parts, self._prompts, self._size, self._to_device = parts, prompts, size, to_device
        self._known: OrderedDict[Hashable, tuple[Tensor | None, Tensor]] = OrderedDict()

    def rows(self, settings: Settings, read: Read) -> list[list[int]]:
        """The rows that a frame takes for the prompt, as the indices of the parts that share each. [[]] for one text."""
        found: dict[str, list[int]] = {}
        for index, part in enumerate(regions.of(settings)):
            words, named = read(part.text)
            words, _ = self._parts.read_prompt(words, named) if named else self._parts.read_prompt(words)
            found.setdefault(" ".join(words.split()), []).append(index)
        return list(found.values()) or [[]]

    def __call__(self, settings: Settings, read: Read, painted: Tensor | None, size: Sequence[int]) -> Composed:
        """The prompt of these settings. painted: the session's mask, [1, h, w]. size: of the latent, (h, w)."""
        parts = regions.of(settings)
        if not parts:
            text = self._prompts.blend(settings, read)
            return Composed((text,), None, (), (text.style,))
        texts = [self._prompts.blend(replace(settings, prompt=part.text), read) for part in parts]
        rows = self.rows(settings, read)
        shares = None
        if len(rows) > 1:
            every = self._shares(parts, painted, (size[0], size[1]))
            shares = torch.stack([every[row].sum(0) for row in rows])
        return Composed(tuple(texts[row[0]] for row in rows), shares, parts, tuple(text.style for text in texts))

    def layers(self, composed: Composed, painted: Tensor | None, finish: Callable[[Style | None], Style | None]) -> Layers:
        """What is painted where; a prompt of weighted parts has one mixed style. finish: completes a part's style."""
        parts, found = composed.parts, [finish(style) for style in composed.styles]
        if not parts or parts[0].region is None:
            return ()
        groups: dict[str | None, list[int]] = {}
        for index, (part, style) in enumerate(zip(parts, found, strict=True)):
            groups.setdefault(None if style is None or not style.amount else part.text, []).append(index)
        if len(groups) == 1:
            return ()
        width, height = self._size
        every = self._shares(parts, painted, (height, width))
        return tuple((found[group[0]], every[group].sum(0)[0, :, :, None]) for group in groups.values())

    def _shares(self, parts: tuple[Part, ...], painted: Tensor | None, size: tuple[int, int]) -> Tensor:
        """`regions.shares` on the device, remembered with its mask."""
        key = (parts, id(painted), size)
        if key not in self._known:
            self._known[key] = (painted, self._to_device(regions.shares(parts, *size, painted)))
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key][1]


def style_of(composed: Composed) -> Style | None:
    """The style of the whole picture: of its one text or region, mixed of weighted parts."""
    if len(composed.styles) == 1 or composed.parts[0].region is not None:
        return composed.styles[0]
    total = sum(part.weight for part in composed.parts)
    return styles.mixed(*((style, part.weight / total) for style, part in zip(composed.styles, composed.parts, strict=True)))
