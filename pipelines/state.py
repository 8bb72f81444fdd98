"""What belongs to one session: frames in flight, noise, prompt travel, previous result. Never shared, never global."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipelines import feature_cache, gate, guidance
from pipelines.feature_cache import CacheKey, CacheState
from pipelines.gate import Thumb
from pipelines.noise import SessionNoise, motion_strength
from pipelines.schedule import Schedule, noised
from pipelines.settings import Settings
from pipelines.stream_batch import InFlight, Ring
from pipelines.types import Frame


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a UNet call: the frame it belongs to, the embedding [L, D] it is conditioned on, and what it may reuse.

    key: whose cached features fit it, None with the cache off. deep: those features if the row takes the shallow pass.
    """

    state: StreamState
    frame: InFlight
    embedding: Tensor
    negative: bool = False
    key: CacheKey | None = None
    deep: Tensor | None = None

    @property
    def slot(self) -> tuple[int, bool]:
        return self.frame.level, self.negative


@dataclass(slots=True)
class CacheEntry:
    """Deep features of the last full pass of one (level, negative) slot, with what the policy knows of them."""

    state: CacheState
    deep: Tensor


@dataclass(slots=True)
class StreamState:
    """One session's memory between steps. Made by `StreamPipeline.open`; belongs to the engine, opaque to everyone else."""

    noise: SessionNoise
    schedule: Schedule
    ring: Ring = field(default_factory=Ring)
    previous_x0: Tensor | None = None  # last finished latent, for the warm start
    previous_thumb: Thumb | None = None
    cache: dict[tuple[int, bool], CacheEntry] = field(default_factory=dict)

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
        wants_thumb = settings.cache.enabled or settings.noise.motion > 0.0
        thumb = gate.thumbnail(frame.pixels) if wants_thumb and frame.pixels is not None else None
        strength = 1.0 if latent is None else self._strength(thumb, settings)
        timesteps = self.schedule.timesteps(strength, settings.steps)
        start = self._start(latent, settings)
        x = self.noise.level(0)
        if start is not None:
            a, s = self._at(timesteps[0])
            x = noised(start, x, a, s)
        self.ring.admit(InFlight(frame.id, x, start, timesteps, anchor=start, thumb=thumb))

    def rows(self, frames: list[InFlight], settings: Settings, embedding: Tensor, negative: Tensor, caching: bool) -> list[Row]:
        """The rows that these frames need for one level: each frame's own, and negative rows where guidance asks.

        caching: the graphs that the feature cache needs are there; without them every row takes the plain full pass.
        """
        rows = [Row(self, frame, embedding) for frame in frames]
        for frame in frames:
            if guidance.needs_negative_row(settings, frame.level, frame.source is not None):
                rows.append(Row(self, frame, negative, negative=True))
        if settings.cache.enabled and caching:
            return [self._reuse(row, settings) for row in rows]
        self.cache.clear()
        return rows

    def _reuse(self, row: Row, settings: Settings) -> Row:
        """The row with the key of its cache slot, and with the slot's features where the policy lets it use them."""
        conditioning = (
            (settings.negative,) if row.negative else (settings.prompt, settings.prompt_b, settings.blend, settings.blend_mode)
        )
        _, height, width = self.noise.shape
        key = CacheKey("", width, height, settings.cache.branch, row.frame.timestep, settings.seed, conditioning)
        entry = self.cache.get(row.slot)
        state = entry.state if entry is not None else CacheState()
        done = feature_cache.decide(state, key, row.frame.thumb, settings.cache)
        if entry is None or done == "full":
            return dataclasses.replace(row, key=key)
        entry.state = feature_cache.advance(state, key, row.frame.thumb, done)
        row.frame.shallow = True
        return dataclasses.replace(row, key=key, deep=entry.deep)

    def keep(self, row: Row, deep: Tensor) -> None:
        """Remember the deep features of a full pass. Not after the session was given another seed or size: a state has one
        size.
        """
        if row.key is not None:
            state = feature_cache.advance(CacheState(), row.key, row.frame.thumb, "full")
            self.cache[row.slot] = CacheEntry(state, deep)

    def absorb(self, frame: InFlight, conditional: Tensor, negative: Tensor | None, settings: Settings) -> None:
        """Take one level's predictions x̂₀ [C, h, w] (conditional, and unconditional where a row asked for it); move the
        frame on.
        """
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

    def _strength(self, thumb: Thumb | None, settings: Settings) -> float:
        previous, self.previous_thumb = self.previous_thumb, thumb
        if settings.noise.motion == 0.0 or thumb is None or previous is None:
            return settings.strength
        difference = float(((thumb - previous) ** 2).mean() ** 0.5)
        return motion_strength(settings.strength, difference, settings.noise.motion)
