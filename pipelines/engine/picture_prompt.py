"""A session's picture prompt, and what becomes of it: tokens for an adapter's cross-attention, or a style for the painter."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipelines.techniques.noise import ToDevice
from pipelines.techniques.style_easing import StyleEasing
from pipelines.techniques.styles import Style, with_tone
from pipelines.values.picture_style import TONE, PictureStyle
from pipelines.values.types import ModelError, Pixels

if TYPE_CHECKING:
    from pipelines.checkpoints.loader.parts import ModelParts


@dataclass(slots=True)
class PicturePrompt:
    """picture: uint8 [height, width, 3], or a style that was made from one. tokens: of it and of no picture, [T, D] each. style:
    of it, on the way from the one before. unread: it has become neither yet."""

    picture: Pixels | PictureStyle | None = None
    tokens: tuple[Tensor, Tensor] | None = None
    style: StyleEasing = field(default_factory=StyleEasing)
    unread: bool = False

    def set(self, picture: Pixels | PictureStyle | None) -> None:
        """Another picture, or none."""
        self.picture, self.tokens, self.unread = picture, None, picture is not None
        if picture is None:
            self.style.go(None)

    def copy(self) -> PicturePrompt:
        return dataclasses.replace(self, style=dataclasses.replace(self.style))


def tokens(first: PicturePrompt, second: PicturePrompt, blend: float) -> tuple[Tensor, Tensor] | None:
    """The tokens of two picture prompts and of none, [T, D] each, mixed: blend 0 is the first picture, 1 the second. One alone is
    all there is. None without tokens."""
    if first.tokens is None or second.tokens is None:
        return first.tokens or second.tokens
    seen, unseen = (torch.lerp(one, other, blend) for one, other in zip(first.tokens, second.tokens, strict=True))
    return seen, unseen


class PictureReader:
    """Reads picture prompts for one model; it has an adapter for them, or a painter that takes them, or neither."""

    def __init__(self, parts: ModelParts, to_device: ToDevice) -> None:
        self._parts, self._to_device = parts, to_device

    def read_both(self, first: PicturePrompt, second: PicturePrompt) -> None:
        """As `read`. The way to the first style of one begins at what the other one had, so that no mixture of both jumps."""
        before, beside = first.style.current, second.style.current
        self.read(first, beside)
        self.read(second, before)

    def read(self, prompt: PicturePrompt, beside: Style | None = None) -> None:
        """Know tokens or style of a picture that is new. beside: where the way to its style begins if it had none."""
        if not prompt.unread or prompt.picture is None:
            return
        pixels = prompt.picture.source if isinstance(prompt.picture, PictureStyle) else prompt.picture
        if self._parts.picture_tokens and pixels is not None:
            tokens, without = self._parts.encode_picture(pixels)
            prompt.tokens = self._to_device(tokens), self._to_device(without)
        style = self.style(prompt.picture)
        prompt.style.current = prompt.style.current or beside
        prompt.style.go(None if style is None else Style(self._to_device(with_tone(torch.from_numpy(style.numbers)))))
        prompt.unread = False

    def style(self, picture: Pixels | PictureStyle) -> PictureStyle | None:
        """The style of a picture, predicted from pixels, or as it is; one of another painter is predicted anew from its source.
        None without a painter that takes pictures, and for another painter's style without a source. From any thread."""
        parts = self._parts
        if isinstance(picture, PictureStyle):
            if self.owns(picture):
                return picture
            return None if picture.source is None else self.style(picture.source)
        return parts.style_reader(picture) if parts.reads_styles else None

    def owns(self, style: PictureStyle) -> bool:
        """Whether a style is of the model's painter."""
        return self._parts.has_painter and style.painter == self._parts.painter_fingerprint

    def check(self, style: PictureStyle, label: str = "style") -> None:
        """Raises ModelError for a style that the model's painter does not take."""
        if not self._parts.has_painter:
            raise ModelError(f"{label}: {self._parts.name} has no painter, so it takes no styles")
        style.check(self._parts.painter_fingerprint, self._parts.style_table.shape[1] - TONE, label)

    def warm(self) -> None:
        """Read what pictures are read with, which no step shall wait for."""
        if self._parts.picture_tokens:
            _ = self._parts.encode_picture
        if self._parts.reads_styles:
            _ = self._parts.style_reader
