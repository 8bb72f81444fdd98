"""Frames in flight at different noise levels, each with its own identity and its own way still to go.

StreamDiffusion (arXiv 2312.12491) keeps a ring of n latents of fixed length. Here every frame carries its own timesteps, so
the number of steps may change while frames are under way, sessions with different steps share a batch, and nothing is shown
before it is done: the first n−1 answers are "warming", not brown pictures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipelines.techniques.feature_cache import CacheKey
from pipelines.techniques.gate import Thumb
from pipelines.techniques.partial import Plan, Window
from pipelines.values.settings import Solver
from pipelines.values.types import Pixels

LATENT = 8
"""Pixels of the picture along a pixel of a latent."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptFeatures:
    """What a frame's full pass at `level` left for its later levels: features of one row, without the batch dimension, and
    the latent x = a·x₀ + s·ε that the pass saw."""

    key: CacheKey
    level: int
    x: Tensor
    a: Tensor
    s: Tensor
    features: tuple[Tensor, ...]


@dataclass(slots=True)
class InFlight:
    """One frame on its way. x: its latent [C, h, w] at `timesteps[level]`; source: its clean latent, None for prompt-only.

    solver: what its timesteps are for; a live change of solver holds for the frames that come. length: of the schedule that
    its timesteps are of.
    """

    frame_id: int
    x: Tensor
    source: Tensor | None
    timesteps: tuple[int, ...]
    level: int = 0
    length: int = 1000
    solver: Solver = "lcm"
    strength: float = 0.5  # 1 without a source
    anchor: Tensor | None = None  # x₀*: the clean latent that x was noised from
    residual: Tensor | None = None  # one-time guidance: x̂₀_u of the negative row minus the anchor
    predicted: Mapping[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # linear guidance: x̂₀_c, x̂₀_u by level; replaced
    first: Tensor | None = None  # x at level 0, with which a refinement begins
    x0: Tensor | None = None  # newest prediction, which a second-order solver takes at the next level too
    thumb: Thumb | None = None  # of the input, where a technique needs it
    small: Pixels | None = None  # the input at a quarter of its size, where its motion is needed
    map: Tensor | None = None  # share of the strength per pixel, [1, h, w]
    omega_map: Tensor | None = None  # share of ω's effect per pixel, [1, h, w]
    inputs_version: int = 0  # which of the session's painted maps was there when it came
    scene: int = 0  # cuts of the input up to it, where motion is followed
    hint: Tensor | None = None  # the maps that n ControlNets hold it to, [3n, H, W]
    kinds: Tensor | None = None  # of these maps, [n · number of MAPS], 1 for a map's kind
    picture: tuple[Tensor, Tensor] | None = None  # tokens of the picture prompt and of no picture, [T, D] each
    beside: Tensor | None = None  # what the UNet takes beside its latent, [C', h, w]
    plan: Plan | None = None  # where partial frames are on: how it is computed
    statistics: Mapping[tuple[int, int], Tensor] = field(default_factory=dict)  # by (level, negative); replaced, never changed
    reused: bool = False  # one of its levels used features of another pass
    kept: Mapping[int, KeptFeatures] = field(default_factory=dict)  # by Row.place; replaced, never changed

    @property
    def window(self) -> Window | None:
        """The part of the picture that its latent is of; None for all of it."""
        return None if self.plan is None else self.plan.window

    def cut(self, whole: Tensor) -> Tensor:
        """Its part of something [..., h, w] of the whole latent's size."""
        return whole if self.window is None else whole[..., *self.window.parts(LATENT)]

    @property
    def taken(self) -> Tensor:
        """What the UNet takes of the frame, [C, h, w] or [C + C', h, w]."""
        return self.x if self.beside is None else torch.cat([self.x, self.beside])

    @property
    def timestep(self) -> int:
        return self.timesteps[self.level]

    @property
    def shares(self) -> tuple[float, ...]:
        """How noisy each of its levels is, 0..1, as the strength counts it."""
        return tuple(t / (self.length - 1) for t in self.timesteps)

    @property
    def finished(self) -> bool:
        return self.level >= len(self.timesteps)


@dataclass(slots=True)
class Departure:
    """What one step let out: the newest finished frame, and older ones that it overtook (live change to fewer steps)."""

    frame: InFlight | None = None
    superseded: tuple[int, ...] = ()


@dataclass(slots=True)
class Ring:
    """The frames of one session in order of their ids; at most as many as a frame has steps."""

    frames: list[InFlight] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.frames)

    def admit(self, frame: InFlight) -> None:
        if self.frames and frame.frame_id <= self.frames[-1].frame_id:
            raise ValueError(f"frame {frame.frame_id} after {self.frames[-1].frame_id}: ids must rise")
        self.frames.append(frame)

    def depart(self) -> Departure:
        """Take out the newest finished frame and everything older than it."""
        finished = [frame for frame in self.frames if frame.finished]
        if not finished:
            return Departure()
        newest = finished[-1]
        superseded = tuple(frame.frame_id for frame in self.frames if frame.frame_id < newest.frame_id)
        self.frames = [frame for frame in self.frames if frame.frame_id > newest.frame_id]
        return Departure(newest, superseded)

    def save(self) -> list[InFlight]:
        """What `restore` needs to undo everything that happens after this call."""
        return [dataclasses.replace(frame) for frame in self.frames]

    def restore(self, saved: list[InFlight]) -> None:
        self.frames = saved
