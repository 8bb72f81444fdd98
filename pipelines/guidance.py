"""Guidance: none, full, and the residual kinds that need fewer UNet rows.

In ε-space classifier-free guidance is ε̂ = ε_u + γ(ε_c − ε_u). Because x̂₀ = (x − s·ε)/a is affine in ε with the same x, it
is exactly x̂₀ = x̂₀_u + γ(x̂₀_c − x̂₀_u); that form is used here since it stays finite where a → 0 and is the same for every
prediction type.

Residual guidance (RCFG, StreamDiffusion, arXiv 2312.12491) replaces the negative row by a stock noise r: ε_u = δ·r, where r
is the noise for which the unconditional prediction is a known latent x₀*: r = (x − a·x₀*)/s. Self-negative takes the frame's
own source latent as x₀*, one-time takes what one negative row said at the first level. r is derived anew from each row's own
x, so nothing is fed back from frame to frame: public code that carries r over at one step multiplies it by
√((1−ᾱ)/ᾱ)·(1+(γ−1)δ) a frame and diverges.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pipelines.settings import Settings


def active(settings: Settings) -> bool:
    """Whether guidance changes anything: γ = 1 is the conditional prediction itself."""
    return settings.guidance_mode != "none" and settings.guidance != 1.0


def needs_negative_row(settings: Settings, level: int, has_source: bool, dropped: bool = False) -> bool:
    """Whether the row at `level` needs an unconditional row beside it.

    Self-negative needs a source picture; from a prompt alone it falls back to one-time. `dropped`: adaptive guidance found
    the rows alike.
    """
    if not active(settings):
        return False
    match settings.guidance_mode:
        case "full":
            return True
        case "adaptive":
            return not dropped
        case "self":
            return not has_source and level == 0
        case _:
            return level == 0


def rows(settings: Settings, levels: int) -> int:
    """Rows of one UNet call for one session with a frame at each of `levels` levels, sources given."""
    return levels + sum(needs_negative_row(settings, level, has_source=True) for level in range(levels))


def residual_negative(x: Tensor, anchor: Tensor, delta: float, a: Tensor, s: Tensor) -> Tensor:
    """x̂₀_u of residual guidance: from ε_u = δ·(x − a·x₀*)/s with x₀* = anchor. At δ = 1 it is the anchor itself."""
    if delta == 1.0:
        return anchor
    return anchor + (1.0 - delta) * (x - a * anchor) / a


def combine(conditional: Tensor, negative: Tensor, scale: float) -> Tensor:
    """x̂₀ = x̂₀_u + γ(x̂₀_c − x̂₀_u)."""
    return negative + scale * (conditional - negative)


def alike(eps_c: Tensor, eps_u: Tensor) -> float:
    """cos(ε_c, ε_u) of one row, -1..1 (adaptive guidance, arXiv 2312.12487)."""
    dot = (eps_c * eps_u).sum()
    return float(dot / (eps_c.norm() * eps_u.norm()).clamp_min(1e-12))


RECHECK = 8
"""Frames after which adaptive guidance asks again whether the two predictions of a level are still alike."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """What adaptive guidance knows of one level of one session: the cosine last seen, and the frames since."""

    cosine: float = -1.0
    age: int = 0

    def drops(self, threshold: float) -> bool:
        """Whether the negative row may stay away this time. With one step per frame there is no later step to spare, so the
        decision is carried from frame to frame and asked again every RECHECK frames."""
        return self.cosine >= threshold and self.age < RECHECK

    def aged(self) -> Likeness:
        return Likeness(self.cosine, self.age + 1)
