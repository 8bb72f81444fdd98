"""Anytime refinement: while a scene rests, its picture goes on along a longer way, one step at a time. Decides only: no tensors,
no UNet, no clock.

Nested diffusion (Elata, Kawar, Michaeli, Elad: arXiv 2305.19066) makes a sampler that can be stopped at any time: an outer
process whose every step asks an inner one for a whole picture,

    x̂₀⁽ᵏ⁾ = D(x⁽ᵏ⁾, t_k),    x⁽ᵏ⁺¹⁾ = S(x̂₀⁽ᵏ⁾, x⁽ᵏ⁾, t_k → t_{k+1}),

shown after any k. D here is the few-step network itself, whose x̂₀ is a picture at every level, and S the stream's solver. t₀
does not depend on the number of steps (schedule.py), so x̂₀⁽⁰⁾ is the picture of one live step: the way begins with what is
shown, and ends, after n steps, with the picture that n live steps draw from the same noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipelines.values.settings import Settings

APPROXIMATE = ("adaptive", "linear")
"""Modes of guidance that stand for full guidance, with fewer negative rows."""

SAVED_S = 1.0
"""Seconds for which an unused share of time is saved up."""


def refined(settings: Settings, limit: int) -> Settings:
    """The settings of the refined picture: more steps, full passes only, nothing that saves work, and nothing of earlier
    pictures. limit: the most steps that the stream allows.

    The version stays, since the picture belongs to the same settings. The kind of guidance stays too, or the look would change.
    Adaptive and linear guidance become full guidance, which they approximate.
    """
    return replace(
        settings,
        steps=min(max(settings.steps, settings.refine.steps), limit),
        guidance_mode="full" if settings.guidance_mode in APPROXIMATE else settings.guidance_mode,
        stream_batch=replace(settings.stream_batch, enabled=False),
        gate=replace(settings.gate, enabled=False),
        cache=replace(settings.cache, enabled=False),
        probe=replace(settings.probe, enabled=False),
        consistency=replace(settings.consistency, enabled=False),
    )


def improves(settings: Settings, limit: int, reused: bool) -> bool:
    """Whether a refined picture can differ from the one that is shown. reused: that one used features of another pass."""
    return settings.refine.enabled and (reused or refined(settings, limit).steps > settings.steps)


@dataclass(frozen=True, slots=True)
class Budget:
    """The account of one session's refinements, in seconds of the device. It grows by `share` of the time that passes, up to the
    share of SAVED_S, and a step may begin while it is above zero. A step that costs more is paid off before the next."""

    share: float
    credit: float
    at: float

    @staticmethod
    def full(share: float, now: float) -> Budget:
        """An account that has saved all it can."""
        return Budget(share, share * SAVED_S, now)

    def later(self, now: float) -> Budget:
        """The account at `now`, seconds of any clock."""
        credit = self.credit + self.share * max(0.0, now - self.at)
        return replace(self, credit=min(credit, self.share * SAVED_S), at=now)

    def spent(self, seconds: float) -> Budget:
        """After a step that took `seconds`."""
        return replace(self, credit=self.credit - seconds)

    @property
    def due_at(self) -> float:
        """When the next step may begin."""
        return self.at if self.credit > 0.0 else self.at - self.credit / self.share + 1e-6
