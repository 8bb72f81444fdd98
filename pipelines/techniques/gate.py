"""The similarity gate: may this frame be answered with the last picture? Knows no model, no clock, no frame ids.

The stochastic similarity filter of StreamDiffusion (arXiv 2312.12491, section 3.4), decided on a thumbnail in host memory
so that no device is needed, plus a rule per tile: the cosine of whole pictures is nearly blind to a small waving hand.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.values.settings import GateSettings
from pipelines.values.types import Pixels

Thumb = NDArray[np.float32]
"""A picture's thumbnail: float32, [64, 64, 3], RGB, 0..1, whatever the picture's shape."""

SIDE = 64
AT_REST = 3
"""So many skips in a row make a scene at rest, 0.1 s of a camera."""

TILES = 8
"""A tile is 1/8 of the picture's width by 1/8 of its height."""


def thumbnail(pixels: Pixels) -> Thumb:
    """The area-averaged [64, 64, 3] thumbnail of `pixels` (uint8 [height, width, 3]). Raises ValueError for other arrays."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels must be uint8 [height, width, 3], not {pixels.dtype} {list(pixels.shape)}")
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.multiply(small, np.float32(1 / 255), dtype=np.float32)


def cosine(x: Thumb, x_ref: Thumb) -> float:
    """Cosine of two thumbnails of one shape, 0..1. With a black one, where it is 0/0: 1 if both are black, else 0."""
    aa, bb = _dot(x, x), _dot(x_ref, x_ref)
    if aa == 0.0 or bb == 0.0:
        return 1.0 if aa == bb else 0.0
    return min(1.0, _dot(x, x_ref) / math.sqrt(aa * bb))


def _dot(a: Thumb, b: Thumb) -> float:
    """Not `a @ b`: from 10,000 numbers on OpenBLAS takes threads, which spin afterwards and cost the model its cores."""
    return float((a * b).sum(dtype=np.float64))


def tile_change(x: Thumb, x_ref: Thumb) -> float:
    """Mean absolute change (0..1) of the tile that changed most.

    Tiles overlap by half, 15x15 of them: what moves across the border of two tiles is seen whole by a third.
    """
    half = SIDE // TILES // 2
    change = np.abs(x - x_ref).mean(axis=2)  # [64, 64]
    halves = change.reshape(2 * TILES, half, 2 * TILES, half).mean(axis=(1, 3))  # [16, 16]
    tiles = halves[1:, 1:] + halves[1:, :-1] + halves[:-1, 1:] + halves[:-1, :-1]  # [15, 15], each four halves
    return float(tiles.max()) / 4


def skip_probability(cos: float, eta: float) -> float:
    """The paper's p_skip = max(0, 1 − (1 − cos)/(1 − η)), for η below 1."""
    return max(0.0, 1.0 - (1.0 - cos) / (1.0 - eta))


@dataclass(frozen=True, slots=True, eq=False)
class GateState:
    """What the gate remembers: the thumbnail of the last *processed* frame, under which settings, and the skips since."""

    reference: Thumb | None = None
    identity: Hashable = None
    skips: int = 0


@dataclass(frozen=True, slots=True)
class Scores:
    """How a frame compares with the last processed one. cosine: 0..1; p_skip: 0..1; tile: tile_change, 0..1."""

    cosine: float = 0.0
    p_skip: float = 0.0
    tile: float = 1.0


def compare(state: GateState, thumb: Thumb, settings: GateSettings) -> Scores:
    """Scores of `thumb` against the reference; the defaults, which skip nothing, where there is none to compare with."""
    x_ref = state.reference
    if x_ref is None or x_ref.shape != thumb.shape:
        return Scores()
    cos = cosine(thumb, x_ref)
    return Scores(cos, skip_probability(cos, settings.threshold), tile_change(thumb, x_ref))


def judge(
    scores: Scores, state: GateState, settings: GateSettings, uniform: float, identity: Hashable, refines: bool = False
) -> bool:
    """True to skip. `uniform`: the die, 0..1; `identity`: equal as long as the settings are the same. refines: as in `decide`."""
    rests = refines and state.skips >= min(AT_REST, settings.max_skip)
    if not settings.enabled or identity != state.identity or (state.skips >= settings.max_skip and not rests):
        return False
    if scores.tile > settings.tile_threshold:
        return False
    return 0.0 < scores.p_skip >= (0.0 if rests else uniform)


def advance(state: GateState, thumb: Thumb, skip: bool, identity: Hashable) -> GateState:
    """The state after the decision: a skip is counted, a processed frame becomes the reference and resets the count."""
    if skip:
        return replace(state, skips=state.skips + 1)
    return GateState(thumb, identity, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Whether one frame is skipped, with the scores that led to it and the thumbnail, where one was made."""

    skip: bool
    scores: Scores = Scores()
    thumb: Thumb | None = None


def decide(
    state: GateState, thumb: Thumb, settings: GateSettings, uniform: float, identity: Hashable = None, refines: bool = False
) -> tuple[Answer, GateState]:
    """The answer for a frame's thumbnail, and the next state. Pure: the die `uniform` (0..1) is the caller's.

    refines: the picture of a scene at rest gets more steps (refinement.py). After AT_REST skips in a row every frame that may be
    skipped is skipped: neither the die nor `max_skip` lets a picture of fewer steps interrupt that, or take its place.

    A frame passes when there is no reference yet, `identity` (of the settings) has changed, `max_skip` frames in a row were
    skipped, or any tile changed by more than `tile_threshold`; otherwise it is skipped with probability p_skip.
    """
    scores = compare(state, thumb, settings)
    skip = judge(scores, state, settings, uniform, identity, refines)
    return Answer(skip, scores, thumb), advance(state, thumb, skip, identity)


class Gate:
    """One session's gate: the state and a die of its own. Not for use by two threads at once."""

    def __init__(self, seed: int) -> None:
        self.state = GateState()
        self._dice = np.random.default_rng(seed)

    def decide(self, pixels: Pixels | None, settings: GateSettings, settings_version: Hashable, refines: bool = False) -> Answer:
        """May the frame be skipped? One die is thrown per frame, whatever the answer, so that a replay stays in step.

        Frames without pixels and those of a gate that is switched off pass, and leave no reference behind.
        """
        uniform = float(self._dice.random())
        if pixels is None or not settings.enabled:
            self.state = GateState()
            return Answer(False)
        answer, self.state = decide(self.state, thumbnail(pixels), settings, uniform, settings_version, refines)
        return answer

    def forget(self) -> None:
        """Drop the reference. To be called when a frame that passed was never processed: the next one passes too."""
        self.state = GateState()
