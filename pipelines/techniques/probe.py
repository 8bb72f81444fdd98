"""The reference probe's decisions: what the reference is, and when there is time for it. Runs nothing, reads no clock.

The probe renders some frames a second time without any acceleration and compares (quality.py). Warm start, noise walk,
motion-aware strength and strength map are settings, not accelerations: the reference has them too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pipelines.values.settings import ProbeSettings, Settings
from pipelines.values.types import Picture


def reference(settings: Settings) -> Settings:
    """The same picture without accelerations: sequential, full guidance at the same scale where there is any, no gate, no cache,
    no partial frames, no second UNet.

    The version stays: it is these settings' reference, not a change of theirs.
    """
    return replace(
        settings,
        guidance_mode="none" if settings.guidance_mode == "none" else "full",
        stream_batch=replace(settings.stream_batch, enabled=False),
        gate=replace(settings.gate, enabled=False),
        cache=replace(settings.cache, enabled=False),
        partial=replace(settings.partial, enabled=False),
        stitch=replace(settings.stitch, fraction=0.0),
        probe=replace(settings.probe, enabled=False),
    )


@dataclass(frozen=True, slots=True)
class Budget:
    """The probe's account: frames processed since the last probe, milliseconds it may spend, and what the last one cost.

    Work earns credit and probes spend it. Credit is saved for one probe at most, so that a long quiet time is not followed by
    a burst of them; a probe that took longer than the last is paid off before the next.
    """

    frames: int = 0
    credit: float = 0.0
    cost: float = 0.0


def earned(budget: Budget, elapsed: float, share: float) -> Budget:
    """After a processed frame that took `elapsed` ms, and earned the probe its `share` (0..1, below 1) of all time."""
    credit = min(budget.credit + elapsed * share / (1 - share), budget.cost)
    return replace(budget, frames=budget.frames + 1, credit=credit)


def due(budget: Budget, every: int) -> bool:
    """Whether to probe now: `every` frames have been processed since the last time, and another like the last can be paid."""
    return budget.frames >= every and budget.credit >= budget.cost


def probed(budget: Budget, elapsed: float) -> Budget:
    """After a probe that took `elapsed` ms."""
    return Budget(0, budget.credit - elapsed, elapsed)


@dataclass(slots=True)
class Probe:
    """One session's probe: its account, and references that wait for their picture to leave the stream batch."""

    budget: Budget = Budget()
    references: dict[int, Picture] = field(default_factory=dict)

    def due(self, settings: ProbeSettings) -> bool:
        return settings.enabled and due(self.budget, settings.every)

    def earn(self, elapsed: float, settings: ProbeSettings) -> None:
        """A frame was processed in `elapsed` ms without its reference."""
        self.budget = earned(self.budget, elapsed, settings.share)

    def add_reference(self, frame_id: int, picture: Picture, elapsed: float) -> None:
        """A frame's reference was made in `elapsed` ms."""
        self.references[frame_id] = picture
        self.budget = probed(self.budget, elapsed)

    def take_reference(self, frame_id: int) -> Picture | None:
        """The reference of the picture that leaves now, if it has one; those of overtaken frames are dropped with it."""
        picture = self.references.get(frame_id)
        self.references = {later: other for later, other in self.references.items() if later > frame_id}
        return picture
