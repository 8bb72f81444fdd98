"""A picture at rest is refined: the frame that is shown goes on to more steps, one level in each call, in a state of its own.

What is decided is in techniques/refinement.py; the way through UNet and decoder is that of every turn (step.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipelines.engine.levels import Levels
from pipelines.engine.rows import Row
from pipelines.engine.state import StreamState
from pipelines.engine.turn import Entry, Turn
from pipelines.techniques import first_levels, guidance, refinement, variety
from pipelines.techniques.schedule import Schedule, noised
from pipelines.techniques.stream_batch import Departure, InFlight, Ring
from pipelines.values.settings import Settings


@dataclass(slots=True, eq=False)
class Refinement(Turn):
    """A turn that moves one frame by one level in each step. shows: the step ends with the frame's picture, finished or not."""

    shows: bool = True
    may_begin: bool = True

    @property
    def frame(self) -> InFlight:
        return self.entry.state.ring.frames[0]

    @property
    def over(self) -> bool:
        """Whether the last level is done."""
        return self.frame.finished

    def take(self, plan: Callable[[Turn], list[Row]]) -> list[Row]:
        """As Turn.take, but for one call of the network."""
        if not self.may_begin:
            return []
        self.may_begin = False
        return Turn.take(self, plan)

    def complete(self) -> bool:
        """Whether the picture is wanted now."""
        return self.over or self.shows

    def depart(self) -> None:
        """The frame's picture is shown; the frame stays here for its next level."""
        self.departure = Departure(self.frame)


def begun(
    state: StreamState, settings: Settings, limit: int, schedule: Schedule, levels: Levels, first: float = 0.0
) -> Refinement | None:
    """The refinement of the picture that a session shows; None where there is nothing to gain, or its picture changes by itself.

    settings: of that picture. limit: the most steps that the stream allows. first: share of the levels that take a pass of their
    own.
    """
    shown = state.shown
    if shown is None or shown.first is None or len(state.ring) or state.changing or settings.noise.mode == "walk":
        return None
    if not refinement.improves(settings, limit, shown.reused):
        return None
    better = refinement.refined(settings, limit)
    strength = variety.strength(settings.noise.variety) if shown.source is None else shown.strength
    timesteps = schedule.timesteps(strength, better.steps, shown.solver)
    longer = len(timesteps) > len(shown.timesteps) or shown.reused
    if not longer or timesteps[0] != shown.timesteps[0]:  # a model that was trained at few timesteps
        return None
    own = state.shadow()
    frame = replace(shown, x=shown.first, timesteps=timesteps, level=0, anchor=shown.source, residual=None, x0=None)
    frame.reused, frame.kept, frame.predicted = False, {}, {}
    if frame.map is not None and frame.source is not None:  # each pixel's noise depends on all timesteps
        frame.x = noised(frame.source, own.noise.level(0), *levels.noise_coefficients(frame))
    own.ring = Ring([frame])
    alike = first_levels.inside(0, len(shown.timesteps), first) == first_levels.inside(0, len(timesteps), first)
    if shown.x0 is not None and alike and _is_first_level(shown, settings):
        frame.residual = shown.residual
        levels.go_on(own, frame, shown.x0)
    return Refinement(Entry(own, None, better), [])


def _is_first_level(shown: InFlight, settings: Settings) -> bool:
    """Whether x̂₀ of the shown picture is that of the longer way's first level: it was one full step, with the same guidance. A
    strength map depends on all timesteps."""
    approximate = guidance.active(settings) and settings.guidance_mode in refinement.APPROXIMATE
    return len(shown.timesteps) == 1 and not shown.reused and shown.map is None and not approximate
