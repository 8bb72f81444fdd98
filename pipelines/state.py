"""What belongs to one session: frames in flight, noise, prompt travel, previous result. Never shared, never global."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipelines import gate, guidance
from pipelines.noise import SessionNoise, motion_strength
from pipelines.schedule import Schedule, noised
from pipelines.settings import Settings
from pipelines.stream_batch import InFlight, Ring
from pipelines.types import Frame, Pixels


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a UNet call: latent x [C, h, w], its timestep, the embedding [L, D] it is conditioned on."""

    frame: InFlight
    embedding: Tensor
    negative: bool = False


@dataclass(slots=True)
class StreamState:
    """One session's memory between steps. Made by `StreamPipeline.open`; belongs to the engine, opaque to everyone else."""

    noise: SessionNoise
    schedule: Schedule
    ring: Ring = field(default_factory=Ring)
    previous_x0: Tensor | None = None  # last finished latent, for the warm start
    previous_thumb: Pixels | None = None

    @property
    def in_flight(self) -> int:
        """Frames inside the stream batch."""
        return len(self.ring)

    def admit(self, frame: Frame, latent: Tensor | None, settings: Settings) -> None:
        """Noise the frame's clean latent [C, h, w] to its first level and let it in; None starts from noise alone."""
        if self.noise.seed != settings.seed:
            self.noise = SessionNoise(settings.seed, self.noise.shape)
        elif settings.noise.mode == "walk":
            self.noise.advance(settings.noise.walk_rate)
        strength = 1.0 if latent is None else self._strength(frame, settings)
        timesteps = self.schedule.timesteps(strength, settings.steps)
        start = self._start(latent, settings)
        x = self.noise.level(0)
        if start is not None:
            a, s = self._at(timesteps[0])
            x = noised(start, x, a, s)
        self.ring.admit(InFlight(frame.id, x, start, timesteps, anchor=start))

    def rows(self, frames: list[InFlight], settings: Settings, embedding: Tensor, negative: Tensor) -> list[Row]:
        """The rows that these frames need for one level: each frame's own, and negative rows where guidance asks."""
        rows = [Row(frame, embedding) for frame in frames]
        for frame in frames:
            if guidance.needs_negative_row(settings, frame.level, frame.source is not None):
                rows.append(Row(frame, negative, negative=True))
        return rows

    def absorb(self, frame: InFlight, conditional: Tensor, negative: Tensor | None, settings: Settings) -> None:
        """Take one level's predictions x̂₀ [C, h, w] (conditional, and unconditional where a row asked for it); move the frame on."""
        x0 = conditional
        if guidance.active(settings):
            a, s = self._at(frame.timestep)
            if negative is not None and settings.guidance_mode != "full":
                frame.anchor = negative
            elif negative is None and frame.anchor is not None:
                negative = guidance.residual_negative(frame.x, frame.anchor, settings.guidance_delta, a, s)
            if negative is not None:
                x0 = guidance.combine(conditional, negative, settings.guidance)
        frame.x0 = x0
        frame.level += 1
        if not frame.finished:
            a, s = self._at(frame.timestep)
            frame.x = noised(x0, self.noise.level(frame.level), a, s)
        else:
            self.previous_x0 = x0

    def _at(self, timestep: int) -> tuple[Tensor, Tensor]:
        return self.schedule.signal[timestep], self.schedule.sigma[timestep]

    def _start(self, latent: Tensor | None, settings: Settings) -> Tensor | None:
        warm = settings.noise.warm_start
        if latent is None or warm == 0.0 or self.previous_x0 is None:
            return latent
        return torch.lerp(latent, self.previous_x0, warm)

    def _strength(self, frame: Frame, settings: Settings) -> float:
        if settings.noise.motion == 0.0 or frame.pixels is None:
            self.previous_thumb = None
            return settings.strength
        thumb, previous = gate.thumbnail(frame.pixels), self.previous_thumb
        self.previous_thumb = thumb
        if previous is None:
            return settings.strength
        difference = float(((thumb - previous) ** 2).mean() ** 0.5)
        return motion_strength(settings.strength, difference, settings.noise.motion)
