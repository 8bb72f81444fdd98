"""A frame enters the stream batch of its session: noised to its first level, with the maps that hold for it."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.engine import picture_prompt
from pipelines.engine.levels import Levels
from pipelines.engine.state import StreamState
from pipelines.techniques import consistency, gate, motion, strength_map, variety
from pipelines.techniques.gate import Thumb
from pipelines.techniques.noise import SessionNoise, motion_strength
from pipelines.techniques.partial import Plan
from pipelines.techniques.schedule import noised
from pipelines.techniques.stream_batch import InFlight
from pipelines.values.settings import OmegaMapSettings, Settings, StrengthMapSettings
from pipelines.values.types import Frame, Pixels


def admit(
    state: StreamState,
    frame: Frame,
    latent: Tensor | None,
    settings: Settings,
    levels: Levels,
    hint: Tensor | None = None,
    kinds: Tensor | None = None,
    beside: Tensor | None = None,
    plan: Plan | None = None,
) -> None:
    """Noise the frame's clean latent [C, h, w] to its first level and put it in the stream batch; without one it starts from
    noise alone. hint, kinds: the maps that ControlNets follow, as of InFlight. beside: what the UNet takes beside its latent.
    plan: how it is computed, where partial frames are on; the latent is of its window. Raises ValueError if ids do not rise."""
    if state.noise.seed != settings.seed:
        state.noise = SessionNoise(settings.seed, state.noise.shape, state.noise.to_device)
    elif settings.noise.mode == "walk":
        state.noise.advance(settings.noise.walk_rate)
    previous, state.previous_thumb = state.previous_thumb, _thumb(frame, settings)
    varied = variety.strength(settings.noise.variety)
    strength = varied if latent is None else _strength(state, previous, settings)
    small = _small(frame, settings)
    start = _start(state, latent, small, settings)
    solver = levels.schedule.resolved(settings.solver)
    item = InFlight(
        frame.id,
        state.noise.level(0),
        start,
        levels.schedule.timesteps(strength, settings.steps, solver),
        length=levels.schedule.length,
        solver=solver,
        strength=1.0 if latent is None else strength,
        anchor=start,
        thumb=state.previous_thumb,
        small=small,
        inputs_version=state.inputs_version,
        scene=_scene(state, small, settings),
        plan=plan,
        hint=hint,
        kinds=kinds,
        beside=beside,
        picture=picture_prompt.tokens(state.seen, state.seen_b, settings.picture.blend),
        omega_map=_map(state, settings.omega_map, previous),
    )
    item.x = item.cut(item.x)
    if item.omega_map is not None:
        item.omega_map = item.cut(item.omega_map)
    if start is not None:
        painted = _map(state, settings.strength_map, previous)
        item.map = None if painted is None else item.cut(painted)
        item.x = noised(start, item.x, *levels.noise_coefficients(item))
    elif settings.noise.variety > 0.0:
        item.x = noised(state.noise.smooth, item.x, *levels.noise_coefficients(item))
    item.first = item.x
    state.ring.admit(item)


def _small(frame: Frame, settings: Settings) -> Pixels | None:
    """The input at a quarter of its size, where a technique follows its motion."""
    wanted = settings.consistency.enabled or settings.noise.warm_start > 0.0
    return motion.small(frame.pixels) if wanted and frame.pixels is not None else None


def _scene(state: StreamState, small: Pixels | None, settings: Settings) -> int:
    """The number of cuts up to an input. What was remembered before a cut is used no more: thumbnails alone do not show the cuts
    of dim scenes."""
    last = state.ring.frames[-1].small if len(state.ring) else state.previous_small
    remembers = settings.cache.enabled or settings.guidance_mode == "adaptive"
    if remembers and small is not None and last is not None and state.follower.between(last, small).lost:
        state.scene += 1
    return state.scene


def _start(state: StreamState, latent: Tensor | None, small: Pixels | None, settings: Settings) -> Tensor | None:
    """The clean latent, mixed with the last result as far as the warm start goes and the motion since is known."""
    warm, last, before = settings.noise.warm_start, state.previous_x0, state.previous_small
    if latent is None or warm == 0.0 or last is None or small is None or before is None:
        return latent
    moved, trust = consistency.moved(last, state.follower.between(before, small), state.noise.to_device)
    return torch.lerp(latent, moved, warm * trust)


def _thumb(frame: Frame, settings: Settings) -> Thumb | None:
    """The input's thumbnail, where a technique needs it."""
    adaptive, moving = settings.guidance_mode == "adaptive", settings.noise.motion > 0.0
    maps = "motion" in (settings.strength_map.mode, settings.omega_map.mode)
    if not (adaptive or settings.cache.enabled or moving or maps) or frame.pixels is None:
        return None
    return gate.thumbnail(frame.pixels) if frame.thumb is None else frame.thumb


def _strength(state: StreamState, previous: Thumb | None, settings: Settings) -> float:
    thumb = state.previous_thumb
    if settings.noise.motion == 0.0 or thumb is None or previous is None:
        return settings.strength
    difference = float(((thumb - previous) ** 2).mean() ** 0.5)
    return motion_strength(settings.strength, difference, settings.noise.motion)


def _map(state: StreamState, settings: StrengthMapSettings | OmegaMapSettings, previous: Thumb | None) -> Tensor | None:
    """Share per pixel [1, h, w]; None for all of it everywhere, as in mode "mask" while nothing is painted."""
    to_device = state.noise.to_device
    match settings.mode:
        case "mask":
            return None if state.mask is None else to_device(state.mask)
        case "motion" if state.previous_thumb is not None:
            size = state.noise.shape[1:]
            return to_device(strength_map.from_motion(state.previous_thumb, previous, *size, settings.still, 1.0)[0])
    return None
