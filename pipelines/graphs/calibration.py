"""What an int8 graph is calibrated with: the inputs that its network meets in a stream of the pictures in a model's folder.

Knows nothing of the quantisation itself (backends/openvino.py). A model without `calibration/` stays in floats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Generator, Tensor, nn

from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.networks.modulation import ModulationPass
from pipelines.networks.pixels import EncodePixels
from pipelines.techniques.feature_cache import SHORT
from pipelines.techniques.noise import SessionNoise
from pipelines.techniques.schedule import denoised, noised
from pipelines.techniques.solvers import steps
from pipelines.values.types import Pixels, StreamSpec

CALIBRATED = ("full", "shallow", "relay", "encoder", "decoder", "decode")
"""The graphs that are worth it; the others are small, or stay in floats for their precision."""

STRENGTHS = (0.5, 0.3, 0.7, 0.15, 0.95)
"""Of the streams of one look: where streams mostly start, then the others in turn, down to the picture and up to nearly noise."""

STEPS = 4
"""Of the longer stream of each pair, where the model makes as many. The other one has one step."""

PAIRS = 22
"""The most pairs of streams, so 110 rows of four steps and one. More rows make a first start longer and change little."""

NATIVE = 64 * 64
"""Cells of a latent up to which a calibration has all of its rows. A larger latent has more values in each."""

FEATURES = 256 * 2**20
"""Bytes of all inputs of one graph, which hold the features of an earlier pass for some."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One frame's way through its levels. seed: of its noise, also the number of its picture."""

    prompt: str
    strength: float
    steps: int
    seed: int


def streams(prompts: Sequence[str], pictures: int, cells: int, steps: int = STEPS) -> list[Stream]:
    """Streams in pairs, of one step and of `steps`: all prompts in turn, at two strengths each, and no picture left out, as far
    as PAIRS goes. A latent of more cells than NATIVE has fewer, but all prompts."""
    share = min(1.0, NATIVE / cells)
    pairs = min(PAIRS, max(len(prompts), round(share * max(2 * len(prompts), pictures))))
    found: list[Stream] = []
    for index in range(pairs):
        time, place = divmod(index, len(prompts))
        strength = STRENGTHS[0] if not time else STRENGTHS[1 + (place + time) % (len(STRENGTHS) - 1)]
        found += [Stream(prompts[place], strength, length, len(found) + at) for at, length in enumerate(sorted({1, steps}))]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationRow:
    """What the UNet takes for a frame at one level: x [1, C, h, w], modulation [1, M], embedding [1, L, D]; a, s: how its output
    is read. last: the level gives the picture."""

    x: Tensor
    modulation: Tensor
    embedding: Tensor
    a: Tensor
    s: Tensor
    last: bool


def pictures(files: Sequence[Path], width: int, height: int) -> list[Pixels]:
    """Calibration pictures, uint8 [height, width, 3], in the order of the files."""
    found = (cv2.imread(str(path)) for path in files)
    sized = (cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) for picture in found if picture is not None)
    return [np.ascontiguousarray(picture[..., ::-1]) for picture in sized]


class Calibration:
    """Inputs for the graphs of one pipeline: the rows of `streams`, as the engine makes them. They are made for the first graph
    and kept for the others."""

    def __init__(self, parts: ModelParts, spec: StreamSpec) -> None:
        self.parts, self.spec = parts, spec

    def __call__(self, part: str, rows: int, branch: int | None) -> list[tuple[Tensor, ...]]:
        """Input tuples of a graph of `rows` rows, named as in `GraphKey`; as many tuples as there are whole groups of rows.

        Knows those of CALIBRATED; ValueError for others.
        """
        single = list(_within(FEATURES, self._inputs(part, branch)))
        single += single[: -len(single) % rows]  # so that no row of the last group is missing
        groups = (single[start : start + rows] for start in range(0, len(single), rows))
        return [tuple(torch.cat(values) for values in zip(*group, strict=True)) for group in groups]

    @cached_property
    def version(self) -> str:
        """Changes with the pictures, the prompts and this code."""
        digest = hashlib.sha256(Path(__file__).read_bytes() + "\n".join(self.prompts).encode())
        for path in self.parts.calibration:
            digest.update(path.read_bytes())
        return digest.hexdigest()[:12]

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """What the UNet draws: a prompt for each look, and one for all looks that are painted over the same picture."""
        return tuple(dict.fromkeys(self.parts.styles.read(prompt)[0] for prompt in self.parts.info.prompts)) or ("",)

    @torch.inference_mode()
    def _inputs(self, part: str, branch: int | None) -> Iterator[tuple[Tensor, ...]]:
        from pipelines.networks.unet import FullPass  # imports diffusers: only when a graph is really built

        if part not in CALIBRATED:
            raise ValueError(f"a graph of kind {part} is not calibrated")
        whole = FullPass(self.parts.unet.float(), branch if part in SHORT else None, keep_encoder=part == "decoder")
        for row in self._rows:
            taken = row.x, row.modulation, row.embedding
            if part in ("full", "encoder"):
                yield taken
            elif part != "decode":
                yield (*taken[part == "decoder" and not self.parts.gated :], *whole(*taken)[1:])
            elif row.last:
                yield (self._denoised(row, whole),)

    @cached_property
    def _rows(self) -> list[CalibrationRow]:
        """The rows of all streams, mixed, so that the first ones are of every kind."""
        made = list(self._made())
        return [made[index] for index in torch.randperm(len(made), generator=Generator().manual_seed(0))]

    def _made(self) -> Iterator[CalibrationRow]:
        from pipelines.networks.unet import FullPass

        encode, spec = EncodePixels(self.parts.vae.float()), self.spec
        found = pictures(self.parts.calibration, spec.width, spec.height)
        latents = [encode(torch.from_numpy(picture)[None])[0] for picture in found]
        trained = len(self.parts.schedule.trained) or STEPS
        longest = min(STEPS, self.parts.info.max_steps, trained)
        whole, modulate = FullPass(self.parts.unet.float()), ModulationPass(self.parts.unet)
        for stream in streams(self.prompts, len(found), latents[0][0, 0].numel(), longest) if found else ():
            yield from self._levels(stream, latents[stream.seed % len(latents)], whole, modulate)

    def _levels(self, stream: Stream, latent: Tensor, whole: nn.Module, modulate: nn.Module) -> Iterator[CalibrationRow]:
        """The levels of one frame [1, C, h, w], with its solver's steps between them, as the engine makes them."""
        channels, height, width = latent.shape[1:]
        schedule, noise = self.parts.schedule, SessionNoise(stream.seed, (channels, height, width))
        solver = schedule.resolved("auto")
        timesteps = schedule.timesteps(stream.strength, stream.steps, solver)
        signal, sigma = schedule.model_coefficients()
        embedding = self.parts.encode_prompt(stream.prompt)[0][None]
        x = noised(latent, noise.level(0)[None], schedule.signal[timesteps[0]], schedule.sigma[timesteps[0]])
        before: Tensor | None = None
        for level, timestep in enumerate(timesteps):
            modulation = modulate(torch.tensor([schedule.model_timestep(timestep)]), embedding)[0]
            last = level + 1 == len(timesteps)
            row = CalibrationRow(x, modulation, embedding, signal[timestep], sigma[timestep], last)
            yield row
            if not last:
                x0, at = self._denoised(row, whole), lambda k: schedule.level(timesteps[k])
                x = steps.weights(solver, level, at, at).step(x, x0, before, noise.level(level + 1)[None])
                before = x0

    def _denoised(self, row: CalibrationRow, whole: nn.Module) -> Tensor:
        out = whole(row.x, row.modulation, row.embedding)[0]
        return denoised(self.parts.schedule.prediction, out, row.x, row.a, row.s)


def _within(limit: int, inputs: Iterator[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
    """The first of these that take no more than `limit` bytes together, at least one."""
    taken = 0
    for values in inputs:
        size = sum(value.nbytes for value in values)
        if taken and taken + size > limit:
            return
        taken += size
        yield values
