"""Prompt to embedding: encoded once, remembered, blended.

A text encoder runs for a prompt that was never seen; everything after that is arithmetic on remembered tensors.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.settings import Settings

CACHED_PROMPTS = 256  # SD 1.5: 77·768 floats = 0.24 MB each, 60 MB at most


class PromptCache:
    """Remembers embeddings [L, D] of the most recently used prompts, for all sessions of a pipeline."""

    def __init__(self, encode: Callable[[str], Tensor], limit: int = CACHED_PROMPTS) -> None:
        self._encode = encode
        self._limit = limit
        self._known: OrderedDict[str, Tensor] = OrderedDict()
        self.encoded = 0  # how often the encoder really ran

    def __call__(self, prompt: str) -> Tensor:
        key = " ".join(prompt.split())
        if key not in self._known:
            self._known[key] = self._encode(key)
            self.encoded += 1
            if len(self._known) > self._limit:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]


@dataclass(slots=True)
class Travel:
    """One session's way from prompt to prompt, timed by the frames' own clock so that a replay takes the same way."""

    words: tuple[str, str] | None = None
    origin: Tensor | None = None
    current: Tensor | None = None
    began: float = 0.0
    weight: float = 1.0

    def at(self, target: Tensor, settings: Settings, now: float) -> Tensor:
        """The embedding [L, D] at `now` seconds: `target`, or on the way to it for settings.travel seconds after a change of
        words. A change on the way sets out from where it is."""
        words = (settings.prompt, settings.prompt_b)
        if words != self.words:
            self.origin = self.current if settings.travel > 0 else None
            self.words, self.began = words, now
        self.weight = (
            1.0 if self.origin is None or not settings.travel else min(max((now - self.began) / settings.travel, 0.0), 1.0)
        )
        if self.weight == 1.0 or self.origin is None:
            self.origin, self.current = None, target
        else:
            self.current = mixer(settings)(self.origin, target, self.weight)
        return self.current


def mixer(settings: Settings) -> Callable[[Tensor, Tensor, float], Tensor]:
    return spherical if settings.blend_mode == "spherical" else torch.lerp


def condition(prompts: PromptCache, settings: Settings) -> Tensor:
    """The embedding [L, D] of a session's prompt, mixed with prompt_b by blend."""
    if not settings.prompt_b or settings.blend == 0.0:
        return prompts(settings.prompt)
    if settings.blend == 1.0:
        return prompts(settings.prompt_b)
    return mixer(settings)(prompts(settings.prompt), prompts(settings.prompt_b), settings.blend)


def spherical(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """Slerp per token [.., D] (Shoemake 1985), lengths mixed linearly; nearly parallel or opposite tokens are mixed linearly."""
    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    unit_a, unit_b = a / length_a.clamp_min(1e-8), b / length_b.clamp_min(1e-8)
    cosine = (unit_a * unit_b).sum(-1, keepdim=True).clamp(-1, 1)
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    direction = (torch.sin((1 - weight) * angle) * unit_a + torch.sin(weight * angle) * unit_b) / sine.clamp_min(1e-8)
    return torch.where(sine < 1e-3, torch.lerp(a, b, weight), direction * torch.lerp(length_a, length_b, weight))
