"""The mathematics of one level: network outputs to x̂₀, guidance, ω, strength map, and the latent of the next level.

Every frame takes the same way. `stream_step` takes the frames of all sessions at once: x̂₀, guidance and, where nothing more
happens to x̂₀, its solver's step to the next level. What a frame has beside that (ω, a map) follows frame by frame.
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
from pipelines.techniques import anchor_blur, granularity, guidance, level_schedule, linear_guidance, strength_map
from pipelines.techniques.guidance import NegativeMemory, NegativeResidual
from pipelines.techniques.linear_guidance import LinearEstimate
from pipelines.techniques.noise import ToDevice, on_host
from pipelines.techniques.schedule import Schedule, model_output
from pipelines.techniques.solvers import steps as solver_steps
from pipelines.techniques.solvers.affine import NoiseLevel, Number, Weights
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
    """One frame's way through its level. x0_negative: x̂₀_u, where `negative` is "x0". noise: [C, h, w] of the next level, and
    previous: x̂₀ of the last one, where `stream_step` takes them."""

    outputs: FrameOutputs
    level: Level
    negative: Negative
    x0_negative: Tensor | None
    fused: bool
    """Whether `stream_step` also makes the latent of the next level. A frame at its last level has none."""
    noise: Tensor | None = None
    previous: Tensor | None = None

    @property
    def group(self) -> tuple[Negative, bool, bool, tuple[int, ...]]:
        """Equal for frames that share a pass."""
        frame = self.outputs.frame
        return self.negative, self.fused, frame.map is not None, tuple(frame.x.shape)


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
        since every level of a frame has noise of its own. Solvers without new noise keep it; then the output is about the present
        latent too, as in Faster Diffusion.
        """
        if row.kept is None or row.kind[0] != "decoder" or row.frame.solver != "lcm":
            return output
        x0 = denoised(self.schedule.prediction, output, row.kept.x, row.kept.a, row.kept.s)
        return model_output(self.schedule.prediction, x0, row.frame.x, *self.model_coefficients(row.frame))

    def advance(self, moved: Sequence[FrameOutputs]) -> None:
        """Move every frame one level on. Frames of one group share a pass, whatever session they belong to."""
        groups: dict[tuple[Negative, bool, bool, tuple[int, ...]], list[Step]] = {}
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
        measured = negative == "x0" and (outputs.negative is not None or settings.guidance_mode in ("adaptive", "linear"))
        share = frame.shares[frame.level]
        scale = level_schedule.guidance(settings, share)
        fused = frame.map is None and level_schedule.omega(settings, share) == 1.0 and not measured
        if frame.map is not None:
            return Step(outputs, Level(a, s, scale), negative, x0_negative, fused)
        at = float(a), float(s)
        if not fused or frame.level + 1 == len(frame.timesteps):
            return Step(outputs, Level(*at, scale), negative, x0_negative, fused)
        weights = self._weights(frame)
        level = Level(*at, scale, *map(float, (weights.x0, weights.noise, weights.x, weights.previous)))
        noise = frame.cut(outputs.state.noise.level(frame.level + 1)) if level.next_noise else None
        return Step(outputs, level, negative, x0_negative, fused, noise, frame.x0 if level.next_previous else None)

    def _weights(self, frame: InFlight) -> Weights:
        """The step of the frame's solver from its present level to the next: numbers, or one per pixel under a strength map."""
        share: Number = 1.0
        if frame.map is not None and frame.solver == "dpmpp-2m" and frame.level:
            share = strength_map.takes_part(frame.map, frame.timesteps, frame.level - 1)
        return solver_steps.weights(
            frame.solver,
            frame.level,
            lambda level: self._noise_level(frame, level),
            lambda level: self.schedule.level(frame.timesteps[level]),
            share,
        )

    def _pass(self, steps: Sequence[Step]) -> tuple[Tensor, Tensor | None]:
        """(x̂₀, x of the next level), [B, C, h, w] each; the second is None where no frame gets it here."""
        frames = [step.outputs.frame for step in steps]
        negative = [step.outputs.negative for step in steps if step.negative == "output" and step.outputs.negative is not None]
        x0_negative = [step.x0_negative for step in steps if step.x0_negative is not None]
        return stream_step(
            self.schedule.prediction,
            stack([step.outputs.conditional for step in steps]),
            stack([frame.x for frame in frames]),
            [step.level for step in steps],
            _shared([step.noise for step in steps], frames),
            stack(negative) if negative else None,
            stack(x0_negative) if x0_negative else None,
            self._kernels,
            _shared([step.previous for step in steps], frames),
        )

    def _finish(self, step: Step, x0: Tensor, x: Tensor | None) -> None:
        """The frame's level is done, with x̂₀ after guidance. x: its latent at the next level, where `stream_step` made it."""
        state, frame, settings = step.outputs.state, step.outputs.frame, step.outputs.settings
        if not step.fused:
            omega = level_schedule.omega(settings, frame.shares[frame.level])
            x0 = granularity.scaled(x0, frame.x, omega, *self.model_coefficients(frame), frame.omega_map)
            if frame.map is not None and frame.source is not None:
                x0 = strength_map.merge(x0, frame.source, frame.map, frame.timesteps, frame.level)
        last = frame.level + 1 == len(frame.timesteps)
        if not last:
            frame.x = self._next(state, frame, x0) if x is None else x
            frame.anchor = x0
        else:
            state.previous_x0, state.previous_small = _pasted(state.previous_x0, frame, x0), frame.small
        frame.x0 = x0
        frame.level += 1

    def go_on(self, state: StreamState, frame: InFlight, x0: Tensor) -> None:
        """Take a frame whose x̂₀ at its present level is known, after guidance, to its next level."""
        frame.x = self._next(state, frame, x0)
        frame.anchor = frame.x0 = x0
        frame.level += 1

    def _next(self, state: StreamState, frame: InFlight, x0: Tensor) -> Tensor:
        """The frame's latent at its next level."""
        noise = frame.cut(state.noise.level(frame.level + 1)) if frame.solver == "lcm" else None
        return self._weights(frame).step(frame.x, x0, frame.x0, noise)

    def _negative(self, outputs: FrameOutputs, a: Tensor, s: Tensor) -> tuple[Negative, Tensor | None]:
        """What guidance takes of the negative prompt, and x̂₀_u where it is known before `stream_step`."""
        settings, frame = outputs.settings, outputs.frame
        if frame.level not in guidance.guided(settings, frame.shares):
            return "none", None
        if settings.guidance_mode == "full":
            return "output", None
        if settings.guidance_mode == "linear":
            return "x0", self._linear(outputs, a, s)
        if outputs.negative is not None:
            return "x0", self._measured(outputs, outputs.negative, a, s)
        anchor = self._anchor(outputs, a, s)
        if settings.guidance_mode == "adaptive":
            known = outputs.state.residuals[frame.level]
            assert isinstance(known, NegativeResidual)
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

    def _linear(self, outputs: FrameOutputs, a: Tensor, s: Tensor) -> Tensor:
        """x̂₀_u of the negative row, or its linear estimate. Both predictions stay with the frame for its later levels."""
        state, settings, frame, negative = outputs.state, outputs.settings, outputs.frame, outputs.negative
        guided = guidance.guided(settings, frame.shares)
        before, known = guided[: guided.index(frame.level)], state.residuals.get(frame.level)
        x0 = denoised(self.schedule.prediction, outputs.conditional, frame.x, a, s)
        x0_negative = None if negative is None else denoised(self.schedule.prediction, negative, frame.x, a, s)
        if not linear_guidance.computed(len(before), len(guided)) and all(level in frame.predicted for level in before):
            found, known = linear_guidance.terms(frame.predicted, before, len(guided), x0), _estimate(known)
            if x0_negative is None:
                assert known is not None
                state.residuals[frame.level], x0_negative = known.aged(), known.unconditional(found, x0)
            else:
                key = outputs.keys.guidance(frame)
                state.residuals[frame.level] = linear_guidance.measured(known, frame.level, key, found, x0, x0_negative)
        assert x0_negative is not None
        frame.predicted = {**frame.predicted, frame.level: (x0, x0_negative)}
        return x0_negative

    def _anchor(self, outputs: FrameOutputs, a: Tensor, s: Tensor) -> Tensor:
        """x₀*: the clean latent that the frame was noised from, blurred where the settings say so. From a prompt alone there is
        none yet; then x̂₀ is taken."""
        frame, settings = outputs.frame, outputs.settings
        if frame.anchor is None:
            return denoised(self.schedule.prediction, outputs.conditional, frame.x, a, s)
        blurs = settings.guidance_mode in ("self", "one-time")
        return anchor_blur.blurred(frame.anchor, settings.guidance_blur if blurs else 0.0)

    def _at(self, frame: InFlight, signal: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The frame's present level out of `signal` and `sigma` [T]."""
        if frame.map is None:
            return signal[frame.timestep], sigma[frame.timestep]
        return self._per_pixel(frame, frame.map, frame.level, signal, sigma)

    def _noise_level(self, frame: InFlight, level: int) -> NoiseLevel:
        """What a frame's latent holds at one of its levels: numbers, or one per pixel under a strength map."""
        if frame.map is None:
            return self.schedule.level(frame.timesteps[level])
        return NoiseLevel(*self._per_pixel(frame, frame.map, level, self.schedule.signal, self.schedule.sigma))

    def _per_pixel(self, frame: InFlight, m: Tensor, level: int, signal: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        signal, sigma = self.to_device(signal), self.to_device(sigma)
        return strength_map.coefficients(m, frame.timesteps, level, signal, sigma)


def _estimate(known: NegativeMemory | None) -> LinearEstimate | None:
    return known if isinstance(known, LinearEstimate) else None


def _pasted(before: Tensor | None, frame: InFlight, x0: Tensor) -> Tensor:
    """The finished latent of the whole picture, where a frame may have computed a window of it."""
    if frame.window is None or before is None:
        return x0
    whole = before.clone()
    frame.cut(whole).copy_(x0)
    return whole


def _shared(terms: Sequence[Tensor | None], frames: Sequence[InFlight]) -> Tensor | None:
    """A term [B, C, h, w] of frames that share a pass, None where no frame has it. A frame without it takes anything, times 0."""
    if all(term is None for term in terms):
        return None
    return stack([frame.x if term is None else term for frame, term in zip(frames, terms, strict=True)])


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """torch.stack, without the copy for a single one."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(list(tensors))
