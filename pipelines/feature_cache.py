"""When deep UNet features of an earlier frame may be used again. Decides only: holds no tensors, knows no UNet and no clock.

DeepCache (arXiv 2312.00858) reuses features from step to step; here they are reused from frame to frame at one noise level,
where the fresh detail of the new frame enters through the UNet's outer layers. One CacheState belongs to one session and one
level (and one row of it, where guidance adds a negative row); the tensors lie beside it, with the engine.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pipelines.gate import Thumb
from pipelines.settings import CacheSettings

Pass = Literal["full", "shallow"]

SCENE_CUT = 0.12
"""Drift that ends an entry under any policy. Over three frames a handheld camera reaches 0.07, a cut 0.27 and more."""


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What an entry belongs to: features of one key are never used under another. `conditioning` stands for the embedding
    (prompts, blend, added conditions): equal if and only if the embedding is the same. width, height: pixels."""

    model: Hashable
    width: int
    height: int
    branch: int
    timestep: int
    seed: int
    conditioning: Hashable


@dataclass(frozen=True, slots=True, eq=False)
class CacheState:
    """One entry, seen from outside. reference: thumbnail of the frame of the full pass, None for a frame without pixels;
    age: frames since then that made do with a shallow pass. The default is no entry."""

    key: CacheKey | None = None
    reference: Thumb | None = None
    age: int = 0


def drift(thumb: Thumb | None, reference: Thumb | None) -> float:
    """Mean absolute change of the input since the full pass, 0..1; 1 where pixels came or went, 0 between two frames without."""
    if thumb is None or reference is None or thumb.shape != reference.shape:
        return 0.0 if thumb is reference else 1.0
    return float(np.abs(thumb - reference).mean())


def decide(state: CacheState, key: CacheKey, thumb: Thumb | None, settings: CacheSettings) -> Pass:
    """The pass for the next frame of this entry. Pure.

    interval: a full pass every `interval`-th frame. adaptive: as soon as the input has drifted by more than `drift`, and no
    later than interval would. Under both, another key or a scene cut asks for a full pass at once.
    """
    if not settings.enabled or state.key != key or state.age + 1 >= settings.interval:
        return "full"
    limit = min(settings.drift, SCENE_CUT) if settings.policy == "adaptive" else SCENE_CUT
    return "full" if drift(thumb, state.reference) > limit else "shallow"


def advance(state: CacheState, key: CacheKey, thumb: Thumb | None, done: Pass) -> CacheState:
    """The state after the frame went through `done`: a full pass starts a new entry, a shallow one ages it.

    Not to be called for a full pass that kept no features, as one with the cache switched off: start again from CacheState().
    """
    return CacheState(key, thumb) if done == "full" else replace(state, age=state.age + 1)
