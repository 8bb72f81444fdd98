"""Guidance: none, full, and the residual kinds that need fewer UNet rows.

In ε-space classifier-free guidance is ε̂ = ε_u + γ(ε_c − ε_u). Because x̂₀ = (x − s·ε)/a is affine in ε with the same x, it
is exactly x̂₀ = x̂₀_u + γ(x̂₀_c − x̂₀_u); that form is used here since it stays finite where a → 0 and is the same for every
prediction type.

Residual guidance (RCFG, StreamDiffusion, arXiv 2312.12491) replaces the negative row by a stock noise r: ε_u = δ·r. Here r is
the noise that the row itself was noised with, r = (x − a·x₀*)/s with x₀* the clean latent that the row was made from: the
source at the first level, the previous level's result afterwards. So nothing is fed back from frame to frame; public code that
carries r over at one step multiplies it by √((1−ᾱ)/ᾱ)·(1+(γ−1)δ) a frame and diverges. And at later levels the negative is not
pulled back to the source again and again, as it is if x₀* stays the source.

The residual of a negative row is D = x̂₀_u − x₀*. Where there is no such row, x̂₀_u = x₀* + D with

- self-negative: D = 0;
- one-time negative: D of this frame's first level;
- adaptive: D of this level, from the last frame that had the row.

x₀* may be blurred (anchor_blur.py), γ may follow the level (level_schedule.py), and *linear* estimates x̂₀_u from the frame's own
earlier levels (linear_guidance.py).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipelines.techniques import level_schedule, linear_guidance
from pipelines.techniques.feature_cache import SCENE_CUT, drift
from pipelines.techniques.gate import Thumb
from pipelines.values.settings import Settings


def active(settings: Settings) -> bool:
    """Whether guidance changes anything: γ = 1 is the conditional prediction itself."""
    return settings.guidance_mode != "none" and settings.guidance != 1.0


def guided(settings: Settings, shares: Sequence[float]) -> list[int]:
    """The levels of a frame at which guidance acts. shares: how noisy each of its levels is, 0..1 (see level_schedule.py)."""
    if not active(settings):
        return []
    return [level for level, share in enumerate(shares) if level_schedule.guidance(settings, share) != 1.0]


def needs_negative_row(settings: Settings, level: int, has_source: bool, reusable: bool = False, count: int = 1) -> bool:
    """Whether the row at `level` needs an unconditional row beside it. Levels are counted among the `count` at which guidance
    acts.

    Self-negative needs a source picture; from a prompt alone it falls back to one-time. `reusable`: of what is remembered of the
    level.
    """
    if not active(settings):
        return False
    match settings.guidance_mode:
        case "full":
            return True
        case "adaptive":
            return not reusable
        case "linear":
            return not reusable or linear_guidance.computed(level, count)
        case "self":
            return not has_source and level == 0
        case _:
            return level == 0


def rows(settings: Settings, levels: int) -> int:
    """Rows of one UNet call for one session with a frame at each of `levels` levels, sources given, guidance at all of them."""
    return levels + sum(needs_negative_row(settings, level, has_source=True, count=levels) for level in range(levels))


def residual_negative(x: Tensor, anchor: Tensor, delta: float, a: Tensor, s: Tensor) -> Tensor:
    """x̂₀_u of residual guidance: from ε_u = δ·(x − a·x₀*)/s with x₀* = anchor. At δ = 1 it is the anchor itself."""
    if delta == 1.0:
        return anchor
    return anchor + (1.0 - delta) * (x - a * anchor) / a


def combine(conditional: Tensor, negative: Tensor, scale: float) -> Tensor:
    """x̂₀ = x̂₀_u + γ(x̂₀_c − x̂₀_u)."""
    return torch.lerp(negative, conditional, scale)


def cosine_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of two tensors of one shape, -1..1, as a tensor []; 0 with one that is zero."""
    return (a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-12)


RECHECK = 8
"""Frames after which adaptive guidance computes the negative row again."""

STAGGER = 2
"""Frames between the first rows of two levels, so that a stream batch does not compute all of them in one step."""


@dataclass(frozen=True, slots=True, eq=False)
class NegativeResidual:
    """The last negative row of one level of one session, for adaptive guidance.

    Adaptive guidance (arXiv 2312.12487) drops rows between the steps of one picture; with few steps a frame the decision is
    carried from frame to frame. key, thumb: conditioning and input of the row. residual: its D, [C, h, w]. cosine: of the guided
    result with the row and of that with the residual before it; to be called with the next frame, when a GPU has it. age: frames
    since. due: age at which the row is computed again.
    """

    key: Hashable
    thumb: Thumb | None
    residual: Tensor
    cosine: Callable[[], float]
    due: int = RECHECK
    age: int = 0

    def reusable(self, key: Hashable, thumb: Thumb | None, threshold: float) -> bool:
        """Whether a frame with this conditioning and input needs no negative row."""
        valid = self.key == key and self.age < self.due and drift(thumb, self.thumb) <= SCENE_CUT
        return valid and self.cosine() >= threshold

    def aged(self) -> NegativeResidual:
        return replace(self, age=self.age + 1)


NegativeMemory = NegativeResidual | linear_guidance.LinearEstimate
"""What a session remembers of one level's negative rows. Settings are part of the keys, so another mode's is never reused."""


def measured(
    before: NegativeMemory | None,
    level: int,
    key: Hashable,
    thumb: Thumb | None,
    residual: Tensor,
    x0: Tensor,
    anchor: Tensor,
    scale: float,
    read: Callable[[Tensor], Callable[[], float]],
) -> NegativeResidual:
    """What is remembered of a level's negative row: residual D, x0 the conditional prediction, anchor x₀*. read: starts
    the way of a number to the host."""
    if not isinstance(before, NegativeResidual) or before.key != key:
        known, due = torch.zeros_like(residual), RECHECK - STAGGER * level % RECHECK
    else:
        known, due = before.residual, RECHECK
    cosine = cosine_similarity(combine(x0, anchor + residual, scale), combine(x0, anchor + known, scale))
    return NegativeResidual(key, thumb, residual, read(cosine), due)
