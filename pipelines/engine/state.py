"""What belongs to one session: frames in flight, noise, cached features, previous result. Never shared, never global."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.prediction import Level
from pipelines.engine.device import Read, at_once
from pipelines.networks import picture_prompt
from pipelines.techniques import feature_cache, gate, granularity, guidance, strength_map
from pipelines.techniques.conditioning import Condition, Travel
from pipelines.techniques.feature_cache import PLAIN, CacheKey, CacheState, Kind
from pipelines.techniques.gate import Thumb
from pipelines.techniques.guidance import Likeness
from pipelines.techniques.noise import Place, SessionNoise, here, motion_strength
from pipelines.techniques.probe import Probe
from pipelines.techniques.schedule import Schedule, denoised, noised, stated
from pipelines.techniques.stream_batch import InFlight, Kept, Ring
from pipelines.values.settings import (
    CacheSettings,
    GateSettings,
    OmegaMapSettings,
    ProbeSettings,
    Settings,
    StreamBatchSettings,
    StrengthMapSettings,
)
from pipelines.values.types import Frame, Pixels

Slot = tuple[int, bool]
"""(level, whether it is the negative row)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a UNet call: the frame it belongs to, what it is conditioned on, and what it may reuse.

    picture: what stands behind the text for a picture prompt, [T + 1, D]. control: scale of the ControlNet, 0 where it has no
    say. kind: the pass that it takes. key: what the features that the pass keeps belong to, None with the cache off.
    features: what an earlier pass kept for it, where it takes the short way; without the batch dimension. kept: of which level
    of its frame they are, if of one.
    """

    state: StreamState
    frame: InFlight
    condition: Condition
    negative: bool = False
    picture: Tensor | None = None
    control: float = 0.0
    kind: Kind = PLAIN
    key: CacheKey | None = None
    features: tuple[Tensor, ...] = ()
    kept: Kept | None = None

    @property
    def slot(self) -> Slot:
        return self.frame.level, self.negative


@dataclass(frozen=True, slots=True)
class Move:
    """A frame's way through one level as kernels/stream_step.py takes it. kind: plain, negative (that row's output is there) or
    known (x̂₀_u is). noise: of the next level, None at the last."""

    kind: str
    level: Level
    noise: Tensor | None
    known: Tensor | None


@dataclass(slots=True)
class CacheEntry:
    """Features of the last full pass of one slot, with what the policy knows of them.

    relayed: features that the last pass, a relay, kept for the next; empty if it was another.
    """

    state: CacheState
    features: tuple[Tensor, ...]
    relayed: tuple[Tensor, ...] = ()

    def turn(self, passes: int) -> int:
        """Whose turn it is of so many short passes: the second's after the first has relayed."""
        return 1 if passes > 1 and self.relayed else 0


@dataclass(slots=True)
class StreamState:
    """One session's memory between steps. Made by `StreamPipeline.open`; belongs to the engine, opaque to everyone else.

    place: puts what comes from the host where the stream computes. read: starts the way of a number back.
    """

    noise: SessionNoise
    schedule: Schedule
    place: Place = here
    read: Read = at_once
    ring: Ring = field(default_factory=Ring)
    previous_x0: Tensor | None = None  # last finished latent, for the warm start
    previous_thumb: Thumb | None = None
    mask: Tensor | None = None  # painted strength map [1, h, w]
    painting: int = 0  # how often it was painted, or shown another picture
    picture: Pixels | None = None  # the picture prompt
    tokens: tuple[Tensor, Tensor] | None = None  # of it and of no picture, [T, D] each, once they are known
    cache: dict[Slot, CacheEntry] = field(default_factory=dict)
    likeness: dict[int, Likeness] = field(default_factory=dict)
    probe: Probe = field(default_factory=Probe)
    travel: Travel = field(default_factory=Travel)
    turn: Any = None  # pipelines.engine.turn.Turn, where it goes on in a later step

    @property
    def in_flight(self) -> int:
        """Frames inside the stream batch."""
        return len(self.ring)

    @property
    def frames(self) -> tuple[int, ...]:
        """Ids of the frames inside the stream batch, oldest first."""
        return tuple(frame.frame_id for frame in self.ring.frames)

    def set_mask(self, mask: NDArray[np.uint8] | None) -> None:
        """The painted strength map for mode "mask": uint8 [H, W] of any size, 255 for full strength; None removes it.

        It holds from the next frame on; frames in flight keep theirs. Raises ValueError for other arrays.
        """
        self.mask = None if mask is None else strength_map.from_mask(mask, *self.noise.shape[1:])[0]
        self.painting += 1  # what was cached under the old map ends

    def set_picture(self, picture: Pixels | None) -> None:
        """The picture prompt, uint8 [height, width, 3] of any size; None removes it.

        It holds from the next frame on; frames in flight keep theirs. Nothing happens without an adapter for picture prompts.
        """
        self.picture, self.tokens = picture, None
        self.painting += 1  # what was cached under the old picture ends

    def shadow(self) -> StreamState:
        """An independent state that will treat the next frame as this one would, for the unaccelerated reference."""
        return StreamState(
            self.noise.copy(),
            self.schedule,
            self.place,
            self.read,
            previous_x0=self.previous_x0,
            previous_thumb=self.previous_thumb,
            mask=self.mask,
            picture=self.picture,
            tokens=self.tokens,
            travel=dataclasses.replace(self.travel),
        )

    def admit(self, frame: Frame, latent: Tensor | None, settings: Settings, hint: Tensor | None = None) -> None:
        """Noise the frame's clean latent [C, h, w] to its first level and let it in; None starts from noise alone.

        hint: the map [3, H, W] that a ControlNet shall hold it to.
        """
        if self.noise.seed != settings.seed:
            self.noise = SessionNoise(settings.seed, self.noise.shape, self.place)
        elif settings.noise.mode == "walk":
            self.noise.advance(settings.noise.walk_rate)
        previous, self.previous_thumb = self.previous_thumb, self._thumb(frame, settings)
        strength = 1.0 if latent is None else self._strength(previous, settings)
        timesteps = self.schedule.timesteps(strength, settings.steps)
        start = self._start(latent, settings)
        item = InFlight(
            frame.id, self.noise.level(0), start, timesteps, anchor=start, thumb=self.previous_thumb, painting=self.painting
        )
        item.hint, item.picture = hint, self.tokens
        item.omega_map = self._map(settings.omega_map, previous)
        if start is not None:
            item.map = self._map(settings.strength_map, previous)
            item.x = noised(start, item.x, *self._levels(item))
        self.ring.admit(item)

    def rows(
        self, frames: list[InFlight], settings: Settings, condition: Condition, negative: Condition, caching: bool
    ) -> list[Row]:
        """The rows that these frames need for one level: each frame's own, and negative rows where guidance asks.

        caching: the graphs that the feature cache needs are there; without them every row takes the plain full pass.
        """
        rows = [self._row(frame, settings, condition, False) for frame in frames]
        for frame in frames:
            known = self.likeness.get(frame.level)
            dropped = known is not None and known.drops(self._asked_under(frame, settings), frame.thumb, settings.guidance_alike)
            if guidance.needs_negative_row(settings, frame.level, frame.source is not None, dropped):
                rows.append(self._row(frame, settings, negative, True))
        across_frames = settings.cache.reuse == "frames"
        if not (settings.cache.enabled and caching and across_frames):
            self.cache.clear()
        if not (settings.cache.enabled and caching):
            return rows
        reuse = self._across_frames if across_frames else self._across_steps
        return [reuse(row, settings) for row in rows]

    def _row(self, frame: InFlight, settings: Settings, condition: Condition, negative: bool) -> Row:
        """A row by the plain pass, with what the frame's picture prompt and map add to it."""
        seen = None
        if frame.picture is not None and settings.picture.scale:
            seen = picture_prompt.behind(frame.picture[negative], settings.picture.scale)
        control = 0.0 if frame.hint is None else settings.control.scale
        return Row(self, frame, condition, negative, seen, control)

    def keep(self, row: Row, features: tuple[Tensor, ...]) -> None:
        """Remember what a row's full pass, or its relay, kept."""
        if row.key is None:
            return
        if row.kind[0] == "relay":
            entry = self.cache[row.slot]
            self.cache[row.slot] = CacheEntry(entry.state, entry.features, features)
        elif row.key.reuse == "frames":
            state = feature_cache.advance(CacheState(), row.key, row.frame.thumb, "full")
            self.cache[row.slot] = CacheEntry(state, features)
        else:
            kept = Kept(row.key, row.frame.level, row.frame.x, *self._coefficients(row.frame), features)
            row.frame.kept = {**row.frame.kept, row.negative: kept}

    def restate(self, row: Row, output: Tensor) -> Tensor:
        """The network's output [C, h, w] for a row, as one about the row's present latent.

        The decoder alone has never seen that latent: what it says is about the one that the encoder saw, whose noise was
        another, since every level of a frame has a noise of its own.
        """
        if row.kept is None or row.kind[0] != "decoder":
            return output
        prediction = self.schedule.prediction
        x0 = denoised(prediction, output, row.kept.x, row.kept.a, row.kept.s)
        return stated(prediction, x0, row.frame.x, *self._coefficients(row.frame))

    def absorb(self, frame: InFlight, conditional: Tensor, negative: Tensor | None, settings: Settings) -> None:
        """Take one level's network outputs [C, h, w] (and the negative row's, where there was one); move the frame on."""
        a, s = self._coefficients(frame)
        prediction = self.schedule.prediction
        x0 = denoised(prediction, conditional, frame.x, a, s)
        if guidance.active(settings):
            x0_u = None if negative is None else denoised(prediction, negative, frame.x, a, s)
            x0 = self._guided(frame, x0, x0_u, settings, a, s)
        x0 = granularity.scaled(x0, frame.x, settings.omega, a, s, frame.omega_map)
        if frame.map is not None and frame.source is not None:
            x0 = strength_map.merge(x0, frame.source, frame.map, frame.timesteps, frame.level)
        self.settle(frame, x0)

    def move(self, frame: InFlight, asked: bool, settings: Settings) -> Move | None:
        """How `stream_step` takes this frame through its level; None where more is to be done than it does: a say per pixel, ω,
        or guidance that looks at what the negative row says. asked: its negative row was."""
        if frame.map is not None or settings.omega != 1.0:
            return None
        a, s = self._coefficients(frame)
        kind, known = "plain", None
        if guidance.active(settings):
            if settings.guidance_mode == "full":
                kind = "negative"
            elif settings.guidance_mode == "adaptive" or asked or frame.anchor is None:
                return None
            else:
                anchor = frame.anchor if frame.residual is None else frame.anchor + frame.residual
                kind, known = "known", guidance.residual_negative(frame.x, anchor, settings.guidance_delta, a, s)
        scale, after = settings.guidance, frame.level + 1
        if after == len(frame.timesteps):
            return Move(kind, Level(float(a), float(s), scale), None, known)
        t = frame.timesteps[after]
        level = Level(float(a), float(s), scale, float(self.schedule.signal[t]), float(self.schedule.sigma[t]))
        return Move(kind, level, self.noise.level(after), known)

    def settle(self, frame: InFlight, x0: Tensor, x: Tensor | None = None) -> None:
        """The frame's level is done, with x̂₀; x: the latent of its next level, where it is made already."""
        frame.x0 = x0
        frame.level += 1
        if frame.finished:
            self.previous_x0 = x0
        else:
            frame.anchor = x0
            frame.x = noised(x0, self.noise.level(frame.level), *self._levels(frame)) if x is None else x

    def _guided(self, frame: InFlight, x0: Tensor, x0_u: Tensor | None, settings: Settings, a: Tensor, s: Tensor) -> Tensor:
        """x̂₀ under guidance, from the conditional prediction and, where the negative row spoke, its x̂₀_u."""
        level, adaptive = frame.level, settings.guidance_mode == "adaptive"
        anchor = x0 if frame.anchor is None else frame.anchor  # from a prompt alone there is no picture yet to stay at
        if x0_u is not None:
            residual = x0_u - anchor
            if adaptive:
                key = self._asked_under(frame, settings)
                self.likeness[level] = guidance.asked(
                    self.likeness.get(level), level, key, frame.thumb, residual, x0, anchor, settings.guidance, self.read
                )
            elif settings.guidance_mode != "full":
                frame.residual = residual
        else:
            delta, known = settings.guidance_delta, frame.residual
            if adaptive:
                before = self.likeness[level]
                self.likeness[level] = before.aged()
                delta, known = 1.0, before.residual
            x0_u = guidance.residual_negative(frame.x, anchor if known is None else anchor + known, delta, a, s)
        return guidance.combine(x0, x0_u, settings.guidance)

    def _asked_under(self, frame: InFlight, settings: Settings) -> Hashable:
        """What a negative row's residual belongs to."""
        return self._picture(frame, settings), frame.timestep

    def _across_frames(self, row: Row, settings: Settings) -> Row:
        """The row with its pass: the short one, with its slot's features, where the policy lets it."""
        key = self._key(row, row.frame.timestep, settings)
        whole, *short = feature_cache.passes(settings.cache)
        entry = self.cache.get(row.slot)
        state = entry.state if entry is not None else CacheState()
        done = feature_cache.decide(state, key, row.frame.thumb, settings.cache)
        if entry is None or done == "full":
            return dataclasses.replace(row, key=key, kind=whole)
        # A new entry rather than a change in place, so that a step that fails can be undone.
        self.cache[row.slot] = CacheEntry(feature_cache.advance(state, key, row.frame.thumb, done), entry.features)
        row.frame.reused = True
        turn = entry.turn(len(short))
        kind, features = short[turn], entry.relayed if turn else entry.features
        return dataclasses.replace(row, key=key if kind[0] == "relay" else None, kind=kind, features=features)

    def _across_steps(self, row: Row, settings: Settings) -> Row:
        """The row with its pass: the short one, with features of an earlier level of its frame, where the policy lets it; the
        plain one where a full pass would keep features that no later level is there to use."""
        key = self._key(row, row.frame.timesteps[0], settings)
        whole, short = feature_cache.passes(settings.cache)  # none cascades within a frame
        kept = row.frame.kept.get(row.negative)
        since = row.frame.level - (kept.level if kept is not None else 0)
        if kept is None or feature_cache.decide_level(kept.key, since, key, settings.cache) == "full":
            last = row.frame.level + 1 == len(row.frame.timesteps)
            return row if last else dataclasses.replace(row, key=key, kind=whole)
        row.frame.reused = True
        return dataclasses.replace(row, kind=short, features=kept.features, kept=kept)

    def _key(self, row: Row, timestep: int, settings: Settings) -> CacheKey:
        """What the features of a row belong to."""
        _, height, width = self.noise.shape
        rest = (self._picture(row.frame, settings), row.condition.guidance)
        return CacheKey("", width, height, settings.cache.reuse, settings.cache.branch, timestep, settings.seed, rest)

    def _picture(self, frame: InFlight, settings: Settings) -> Hashable:
        """All that a picture depends on besides the input: what was remembered under another is not used."""
        plain = dataclasses.replace(
            settings,
            version=0,
            stream_batch=StreamBatchSettings(),
            gate=GateSettings(),
            cache=CacheSettings(),
            probe=ProbeSettings(),
        )
        return plain, self.travel.weight, frame.painting, frame.hint is not None

    def _coefficients(self, frame: InFlight) -> tuple[Tensor, Tensor]:
        """(a, s) with which the network's output at the frame's present level is read."""
        return self._at(frame, *self.schedule.believed())

    def _levels(self, frame: InFlight) -> tuple[Tensor, Tensor]:
        """(a, s) to which the frame is noised for its present level: the same, but for a model that is told another timestep."""
        return self._at(frame, self.schedule.signal, self.schedule.sigma)

    def _at(self, frame: InFlight, signal: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The frame's present level out of `signal` and `sigma` [T]: numbers, or one per pixel [1, h, w] under a strength map."""
        if frame.map is not None:
            return strength_map.coefficients(frame.map, frame.timesteps, frame.level, self.place(signal), self.place(sigma))
        return signal[frame.timestep], sigma[frame.timestep]

    def _start(self, latent: Tensor | None, settings: Settings) -> Tensor | None:
        warm = settings.noise.warm_start
        if latent is None or warm == 0.0 or self.previous_x0 is None:
            return latent
        return torch.lerp(latent, self.previous_x0, warm)

    def _thumb(self, frame: Frame, settings: Settings) -> Thumb | None:
        """The input's thumbnail, where a technique will look at it."""
        adaptive, moving = settings.guidance_mode == "adaptive", settings.noise.motion > 0.0
        maps = "motion" in (settings.strength_map.mode, settings.omega_map.mode)
        if not (adaptive or settings.cache.enabled or moving or maps) or frame.pixels is None:
            return None
        return gate.thumbnail(frame.pixels) if frame.thumb is None else frame.thumb

    def _strength(self, previous: Thumb | None, settings: Settings) -> float:
        thumb = self.previous_thumb
        if settings.noise.motion == 0.0 or thumb is None or previous is None:
            return settings.strength
        difference = float(((thumb - previous) ** 2).mean() ** 0.5)
        return motion_strength(settings.strength, difference, settings.noise.motion)

    def _map(self, settings: StrengthMapSettings | OmegaMapSettings, previous: Thumb | None) -> Tensor | None:
        """Share per pixel [1, h, w]; None for all of it everywhere, as in mode "mask" while nothing is painted."""
        match settings.mode:
            case "mask":
                return None if self.mask is None else self.place(self.mask)
            case "motion" if self.previous_thumb is not None:
                size = self.noise.shape[1:]
                return self.place(strength_map.from_motion(self.previous_thumb, previous, *size, settings.still, 1.0)[0])
        return None
