"""A session's way from one picture's style to the next, without a jump; timed by the frames' own clock."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.techniques.styles import Style, mixed

SECONDS = 1.5
"""How long the way to another style takes."""


@dataclass(slots=True)
class StyleEasing:
    """current: the style of the present frame. origin, target: where the way leads, from the frame at `began` on; no origin where
    it is over."""

    current: Style | None = None
    origin: Style | None = None
    target: Style | None = None
    began: float | None = None

    def go(self, target: Style | None) -> None:
        """Set out for `target` from where the style is. From no style, and to none, there is no way: it holds at once."""
        self.origin = None if target is None else self.current
        self.target, self.began = target, None
        if self.origin is None:
            self.current = target

    def at(self, now: float) -> Style | None:
        """The style at `now`, in seconds of the frames' clock."""
        if self.origin is None or self.target is None:
            return self.current
        self.began = now if self.began is None else self.began
        weight = min(max((now - self.began) / SECONDS, 0.0), 1.0)
        self.current = mixed((self.origin, 1.0 - weight), (self.target, weight))
        if weight == 1.0:
            self.origin, self.current = None, self.target
        return self.current
