"""The mathematics of one level: network outputs to x̂₀, guidance, ω, strength map, and noise for the next level.

Every frame takes the same way. `stream_step` takes the frames of all sessions at once: x̂₀, guidance and, where nothing more
happens to x̂₀, the next level's noise. What a frame has beside that (ω, a map) follows frame by frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from kernels.prediction import Level, denoised
from kernels.stream_step import stream_step
from pipelines.engine.device import ReadNumber, read_on_host
from pipelines.engine.rows import Keys, Row
from pipelines.engine.state import StreamState
from pipelines.techniques import granularity, guidance, strength_map
from pipelines.techniques.noise import ToDevice, on_host
from pipelines.techniques.schedule import Schedule, model_output, noised
from pipelines.techniques.stream_batch import InFlight
from pipelines.values.settings import Settings

Negative = Literal["none", "output", "x0"]
"""What guidance takes of the negative prompt: nothing, the negative row's output, or x̂₀_u itself."""


@dataclass(frozen=True, slots=True)
class FrameOutputs:
    """What the UNet made of one frame: the output [C, h, w] of its row, and of its negative row where it had one.

    keys: of what the session remembers.
    """

    state: StreamState
    frame: InFlight
    settings: Settings
    keys: Keys
    conditional: Tensor
    negative: Tensor | None


@dataclass(frozen=True, slots=True)
class Step:
    """One frame's way through its level. x0_negative: x̂₀_u, where `negative` is "x0". noise: [C, h, w] of the next level, where
    `stream_step` adds it."""

    outputs: FrameOutputs
    level: Level
    negative: Negative
    x0_negative: Tensor | None
    noise: Tensor | None
    fused: bool
    """Whether `stream_step` adds the next level's noise. A frame at its last level has none."""

    @property
    def group(self) -> tuple[Negative, bool, bool]:
        """Equal for frames that share a pass."""
        return self.negative, self.fused, self.outputs.frame.map is not None


class Levels:
    """The level mathematics of one pipeline. to_device: puts a host's tensor where the stream computes. read: see ReadNumber.
    kernels: whether Triton kernels may be used."""

    def __init__(
        self, schedule: Schedule, to_device: ToDevice = on_host, read: ReadNumber = read_on_host, kernels: bool = True
    ) -> None:
        self.schedule, self.to_device, self._read, self._kernels = schedule, to_device, read, kernels

    def noise_coefficients(self, frame: InFlight) -> tuple[Tensor, Tensor]:
        """(a, s) to which a frame is noised for its present level: numbers, or one per pixel [1, h, w] under a strength map."""
        return self._at(frame, self.schedule.signal, self.schedule.sigma)

    def model_coefficients(self, frame: InFlight) -> tuple[Tensor, Tensor]:
        """(a, s) with which the network's output at the frame's present level is read: the same, but for a model that takes
        another timestep."""
        return self._at(frame, *self.schedule.model_coefficients())

    def restated(self, row: Row, output: Tensor) -> Tensor:
        """The network's output [C, h, w] for a row, as one about the row's present latent.

        The decoder alone has not seen that latent. Its output is about the latent that the encoder saw, which had other noise,
        since every level of a frame has noise of its own.
        """
        if row.kept is None or row.kind[0] != "decoder":
            return output
        x0 = denoised(self.schedule.prediction, output, row.kept.x, row.kept.a, row.kept.s)
        return model_output(self.schedule.prediction, x0, row.frame.x, *self.model_coefficients(row.frame))

    def advance(self, moved: Sequence[FrameOutputs]) -> None:
        """Move every frame one level on. Frames of one group share a pass, whatever session they belong to."""
        groups: dict[tuple[Negative, bool, bool], list[Step]] = {}
        for outputs in moved:
            step = self._step(outputs)
            groups.setdefault(step.group, []).append(step)
        for steps in groups.values():
            x0, x = self._pass(steps)
            for place, step in enumerate(steps):
                self._finish(step, x0[place], None if x is None else x[place])

    def _step(self, outputs: FrameOutputs) -> Step:
        frame, settings = outputs.frame, outputs.settings
        a, s = self.model_coefficients(frame)
        negative, x0_negative = self._negative(outputs, a, s)
        # Only what stream_step does itself is left for these frames; all others are noised after ω, map and measurements.
        measured = negative == "x0" and (outputs.negative is not None or settings.guidance_mode == "adaptive")
        fused = frame.map is None and settings.omega == 1.0 and not measured
        if frame.map is not None:
            return Step(outputs, Level(a, s, settings.guidance), negative, x0_negative, None, fused)
        after = frame.level + 1
        if not fused or after == len(frame.timesteps):
            return Step(outputs, Level(float(a), float(s), settings.guidance), negative, x0_negative, None, fused)
        t = frame.timesteps[after]
        next_a, next_s = float(self.schedule.signal[t]), float(self.schedule.sigma[t])
        level = Level(float(a), float(s), settings.guidance, next_a, next_s)
        return Step(outputs, level, negative, x0_negative, outputs.state.noise.level(after), fused)

    def _pass(self, steps: Sequence[Step]) -> tuple[Tensor, Tensor | None]:
        """(x̂₀, x of the next level), [B, C, h, w] each; the second is None where no frame gets it here."""
        frames = [step.outputs.frame for step in steps]
        goes_on = any(step.noise is not None for step in steps)  # a frame at its last level takes anything, times 0
        noise = [frame.x if step.noise is None else step.noise for frame, step in zip(frames, steps, strict=True)]
        negative = [step.outputs.negative for step in steps if step.negative == "output" and step.outputs.negative is not None]
        x0_negative = [step.x0_negative for step in steps if step.x0_negative is not None]
        return stream_step(
            self.schedule.prediction,
            stack([step.outputs.conditional for step in steps]),
            stack([frame.x for frame in frames]),
            [step.level for step in steps],
            stack(noise) if goes_on else None,
            stack(negative) if negative else None,
            stack(x0_negative) if x0_negative else None,
            self._kernels,
        )

    def _finish(self, step: Step, x0: Tensor, x: Tensor | None) -> None:
        """The frame's level is done, with x̂₀ after guidance. x: its latent at the next level, where `stream_step` made it."""
        state, frame, settings = step.outputs.state, step.outputs.frame, step.outputs.settings
        if not step.fused:
            x0 = granularity.scaled(x0, frame.x, settings.omega, *self.model_coefficients(frame), frame.omega_map)
            if frame.map is not None and frame.source is not None:
                x0 = strength_map.merge(x0, frame.source, frame.map, frame.timesteps, frame.level)
        frame.x0 = x0
        frame.level += 1
        if frame.finished:
            state.previous_x0 = x0
            return
        frame.anchor = x0
        frame.x = noised(x0, state.noise.level(frame.level), *self.noise_coefficients(frame)) if x is None else x

    def _negative(self, outputs: FrameOutputs, a: Tensor, s: Tensor) -> tuple[Negative, Tensor | None]:
        """What guidance takes of the negative prompt, and x̂₀_u where it is known before `stream_step`."""
        settings, frame = outputs.settings, outputs.frame
        if not guidance.active(settings):
            return "none", None
        if settings.guidance_mode == "full":
            return "output", None
        if outputs.negative is not None:
            return "x0", self._measured(outputs, outputs.negative, a, s)
        anchor = self._anchor(outputs, a, s)
        if settings.guidance_mode == "adaptive":
            known = outputs.state.residuals[frame.level]
            outputs.state.residuals[frame.level] = known.aged()
            return "x0", anchor + known.residual
        at = anchor if frame.residual is None else anchor + frame.residual
        return "x0", guidance.residual_negative(frame.x, at, settings.guidance_delta, a, s)

    def _measured(self, outputs: FrameOutputs, negative: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """x̂₀_u of the negative row; its residual is remembered for the levels or frames that will have no such row."""
        state, settings, frame = outputs.state, outputs.settings, outputs.frame
        x0_negative = denoised(self.schedule.prediction, negative, frame.x, a, s)
        anchor = self._anchor(outputs, a, s)
        residual = x0_negative - anchor
        if settings.guidance_mode == "adaptive":
            key, before = outputs.keys.guidance(frame), state.residuals.get(frame.level)
            x0 = denoised(self.schedule.prediction, outputs.conditional, frame.x, a, s)
            state.residuals[frame.level] = guidance.measured(
                before, frame.level, key, frame.thumb, residual, x0, anchor, settings.guidance, self._read
            )
        else:
            frame.residual = residual
        return x0_negative

    def _anchor(self, outputs: FrameOutputs, a: Tensor, s: Tensor) -> Tensor:
        """x₀*: the clean latent that the frame was noised from. From a prompt alone there is none yet; then x̂₀ is taken."""
        frame = outputs.frame
        return denoised(self.schedule.prediction, outputs.conditional, frame.x, a, s) if frame.anchor is None else frame.anchor

    def _at(self, frame: InFlight, signal: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The frame's present level out of `signal` and `sigma` [T]."""
        if frame.map is None:
            return signal[frame.timestep], sigma[frame.timestep]
        signal, sigma = self.to_device(signal), self.to_device(sigma)
        return strength_map.coefficients(frame.map, frame.timesteps, frame.level, signal, sigma)


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """torch.stack, without the copy for a single one."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(list(tensors))
