"""The noise of one session: one tensor per level, from the session's own generators.

Fixed noise gives frame-to-frame stability; a fresh draw per frame flickers. The walk moves along great circles between
Gaussian draws, so every point of it is again standard normal (in high dimension two draws are orthogonal to 1/√d).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor

from pipelines.techniques import variety

LEVEL_STRIDE = 0x9E3779B97F4A7C15  # 64-bit golden ratio: neighbouring seeds get unrelated streams per level


ToDevice = Callable[[Tensor], Tensor]
"""Puts a tensor of the host on the device that computes."""


def on_host(value: Tensor) -> Tensor:
    """ToDevice on a CPU, where there is nothing to do."""
    return value


class LevelNoise:
    """Noise [C, h, w] of one level; `advance` moves it by an angle. Drawn on the host: the same for every device."""

    def __init__(self, seed: int, level: int, shape: tuple[int, int, int], to_device: ToDevice = on_host) -> None:
        self._generator = torch.Generator().manual_seed((seed + (level + 1) * LEVEL_STRIDE) % 2**63)
        self._shape, self._to_device = shape, to_device
        self._start = self._draw()
        self._target: Tensor | None = None  # drawn only when the walk begins
        self._angle = 0.0
        self.value = self._start

    def _draw(self) -> Tensor:
        return self._to_device(torch.randn(self._shape, generator=self._generator))

    def advance(self, angle: float) -> None:
        """Move `angle` radians (>= 0) towards the present target; at a quarter circle the target becomes the start."""
        if angle <= 0.0:
            return
        self._angle += angle
        while self._target is None or self._angle >= math.pi / 2:
            if self._target is not None:
                self._start, self._angle = self._target, self._angle - math.pi / 2
            self._target = self._draw()
        self.value = math.cos(self._angle) * self._start + math.sin(self._angle) * self._target

    def copy(self) -> LevelNoise:
        """An independent one that goes on exactly as this one will."""
        twin = copy.copy(self)
        twin._generator = torch.Generator()
        twin._generator.set_state(self._generator.get_state())
        return twin


class SessionNoise:
    """The levels of one session, made on first use. Same seed and shape: same noise, whatever the other settings."""

    def __init__(self, seed: int, shape: tuple[int, int, int], to_device: ToDevice = on_host) -> None:
        self.seed = seed
        self.shape = shape
        self.to_device = to_device
        self._levels: dict[int, LevelNoise] = {}
        self._smooth: Tensor | None = None

    def level(self, index: int) -> Tensor:
        """[C, h, w], float32, standard normal."""
        return self._at(index).value

    @property
    def smooth(self) -> Tensor:
        """The smooth latent of the seed, [C, h, w]; see variety.py."""
        if self._smooth is None:
            self._smooth = self.to_device(variety.smooth(self.seed, self.shape))
        return self._smooth

    def advance(self, angle: float) -> None:
        for level in self._levels.values():
            level.advance(angle)

    def copy(self) -> SessionNoise:
        twin = SessionNoise(self.seed, self.shape, self.to_device)
        twin._smooth = self._smooth
        twin._levels = {index: level.copy() for index, level in self._levels.items()}
        return twin

    def _at(self, index: int) -> LevelNoise:
        if index not in self._levels:
            self._levels[index] = LevelNoise(self.seed, index, self.shape, self.to_device)
        return self._levels[index]


def motion_strength(strength: float, difference: float, amount: float) -> float:
    """Motion-aware strength (StreamDiffusionV2): d = clamp(RMS frame difference / 0.2, 0, 1) lowers the noise when moving fast.

    difference: RMS in 0..1 of full scale. amount 0 leaves the strength alone, 1 lets full motion halve it.
    """
    d = min(max(difference / 0.2, 0.0), 1.0)
    return strength * (1.0 - 0.5 * amount * d)
