"""What an int8 graph is calibrated with: the inputs that its network meets in a stream of the pictures in a model's folder.

Knows nothing of the quantisation itself (backends/openvino.py). A model without `calibration/` stays in floats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Generator, Tensor

from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.networks.modulation import ModulationPass
from pipelines.networks.pixels import EncodePixels
from pipelines.techniques.feature_cache import SHORT
from pipelines.techniques.schedule import denoised, noised
from pipelines.values.types import Pixels, StreamSpec

CALIBRATED = ("full", "shallow", "relay", "encoder", "decoder", "decode")
"""The graphs that are worth it; the others are small, or stay in floats for their precision."""

STRENGTHS = (0.5, 0.3, 0.7, 0.15, 0.95)
"""Taken in turn: where streams mostly start, where their later steps are, and nearly pure noise."""


def pictures(files: Sequence[Path], width: int, height: int) -> list[Pixels]:
    """Calibration pictures, uint8 [height, width, 3], in the order of the files."""
    found = (cv2.imread(str(path)) for path in files)
    sized = (cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) for picture in found if picture is not None)
    return [np.ascontiguousarray(picture[..., ::-1]) for picture in sized]


class Calibration:
    """Inputs for the graphs of one pipeline, one stream row after the other: every picture at one strength under one prompt. The
    rows are made for the first graph and kept for the others."""

    def __init__(self, parts: ModelParts, spec: StreamSpec) -> None:
        self.parts, self.spec = parts, spec

    def __call__(self, part: str, rows: int, branch: int | None) -> list[tuple[Tensor, ...]]:
        """Input tuples of a graph of `rows` rows, named as in `GraphKey`; as many tuples as there are whole groups of rows.

        Knows those of CALIBRATED; ValueError for others.
        """
        single = list(self._inputs(part, branch))
        single += single[: -len(single) % rows]  # so that no row of the last group is missing
        groups = (single[start : start + rows] for start in range(0, len(single), rows))
        return [tuple(torch.cat(values) for values in zip(*group, strict=True)) for group in groups]

    @cached_property
    def version(self) -> str:
        """Changes with the pictures and with this code."""
        digest = hashlib.sha256(Path(__file__).read_bytes())
        for path in self.parts.calibration:
            digest.update(path.read_bytes())
        return digest.hexdigest()[:12]

    @torch.inference_mode()
    def _inputs(self, part: str, branch: int | None) -> Iterator[tuple[Tensor, ...]]:
        from pipelines.networks.unet import FullPass  # imports diffusers: only when a graph is really built

        unet = self.parts.unet.float()
        whole = FullPass(unet, branch if part in SHORT else None, keep_encoder=part == "decoder")
        for x, modulation, embedding, a, s in self._rows:
            if part in ("full", "encoder"):
                yield x, modulation, embedding
                continue
            out, *features = whole(x, modulation, embedding)
            if part in SHORT:
                yield x, modulation, embedding, *features
            elif part == "decoder":
                yield modulation, embedding, *features
            elif part == "decode":
                yield (denoised(self.parts.schedule.prediction, out, x, a, s),)
            else:
                raise ValueError(f"a graph of kind {part} is not calibrated")

    @cached_property
    def _rows(self) -> list[tuple[Tensor, ...]]:
        return list(self._made())

    def _made(self) -> Iterator[tuple[Tensor, ...]]:
        """(x [1, C, h, w], modulation [1, M], embedding [1, L, D], a, s) of each picture."""
        parts, schedule = self.parts, self.parts.schedule
        encode, modulate = EncodePixels(parts.vae.float()), ModulationPass(parts.unet.float())
        noise = Generator().manual_seed(0)
        found = pictures(self.parts.calibration, self.spec.width, self.spec.height)
        prompts = islice(cycle(parts.info.prompts or ("",)), len(found))
        for picture, prompt, strength in zip(found, prompts, islice(cycle(STRENGTHS), len(found)), strict=True):
            timestep = schedule.timesteps(strength, 1)[0]
            a, s = schedule.signal[timestep], schedule.sigma[timestep]
            latent = encode(torch.from_numpy(picture)[None])[0]
            x = noised(latent, torch.randn(latent.shape, generator=noise), a, s)
            embedding = parts.encode_prompt(prompt)[0][None]
            yield x, modulate(torch.tensor([schedule.model_timestep(timestep)]), embedding)[0], embedding, a, s
