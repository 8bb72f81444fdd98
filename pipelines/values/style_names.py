"""Styles of a session by their names, and which of them a prompt names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pipelines.values.picture_style import PictureStyle

Named = tuple[tuple[str, PictureStyle], ...]
"""Names as they were typed, with their styles."""

MOST = 32
"""Styles of one session that words may name; the oldest is forgotten first."""


class StyleNames:
    """Immutable; `with_style` makes a larger one."""

    def __init__(self, styles: Iterable[PictureStyle] = ()) -> None:
        self._styles = {style.name.casefold(): style for style in styles if style.name}
        names = sorted(self._styles, key=len, reverse=True)  # the longest first: "red waves" before "red"
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)") if names else None

    def __len__(self) -> int:
        return len(self._styles)

    def with_style(self, style: PictureStyle) -> StyleNames:
        """These and one more, at most MOST; it replaces one of the same name."""
        others = [other for name, other in self._styles.items() if name != style.name.casefold()]
        return StyleNames([*others, style][-MOST:])

    def read(self, prompt: str, painter: str | None) -> tuple[str, Named]:
        """(the prompt without the names, the names as typed with their styles). Styles of another painter than this one, or all
        if there is none, are left among the words."""
        folded = prompt.casefold()
        if self._pattern is None or painter is None or len(folded) != len(prompt):
            return prompt, ()
        found = [match for match in self._pattern.finditer(folded) if self._styles[match.group()].painter == painter]
        if not found:
            return prompt, ()
        kept, at = [], 0
        for match in found:
            kept.append(prompt[at : match.start()])
            at = match.end()
        pieces = (" ".join(piece.split()) for piece in "".join([*kept, prompt[at:]]).split(","))
        named = tuple((prompt[match.start() : match.end()], self._styles[match.group()]) for match in found)
        return ", ".join(piece for piece in pieces if piece), named
