"""The figures of every look: what comes out of the engine against what the look's teacher makes of the same photograph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from pipelines.media import ClipReader
from training.judging import measures, texture
from training.judging.report import CLOSEST
from training.judging.subject import SIDE, Look, Picture
from training.painter import meter
from training.painter.hed import Edges

STRENGTHS = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9)
SCENES = ("sea, {}", "mountains, {}", "city, {}")
SEEDS = (1, 2, 3)
STILL = 4  # frames of a still scene


class Subject(Protocol):
    """What is judged, as `training.judging.subject.Engine` is it."""

    def clip(
        self, frames: Sequence[Picture], prompt: str, strength: float = 0.5, steps: int = 1, seed: int = 0
    ) -> list[Picture]: ...

    def dream(self, prompt: str, seed: int) -> Picture: ...


class Textures(Protocol):
    """As `training.judging.texture.Texture` is it."""

    def statistics(self, picture: Picture) -> texture.Statistics: ...


def frames(path: Path, count: int) -> list[Picture]:
    """The first frames of a clip."""
    found = []
    with ClipReader(path, SIDE, SIDE) as clip:
        for picture in clip:
            found.append(picture)
            if len(found) == count:
                break
    return found


def edge_maps(network: Edges) -> Callable[[Picture], measures.Map]:
    """HED on pictures of half the size."""

    @torch.no_grad()
    def edges(picture: Picture) -> NDArray[np.float32]:
        small = cv2.resize(picture, (picture.shape[1] // 2, picture.shape[0] // 2), interpolation=cv2.INTER_AREA)
        x = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.autocast("cpu", torch.bfloat16):
            return np.asarray(network(x)[0, 0].float().numpy())

    return edges


@dataclass
class Judge:
    """photographs by name, [SIDE, SIDE, 3]; clips: frames of each; steps: of the engine for each frame."""

    subject: Subject
    looks: Sequence[Look]
    photographs: Mapping[str, Picture]
    clips: Sequence[Sequence[Picture]]
    texture: Textures
    edges: Callable[[Picture], measures.Map]
    steps: int = 1
    strengths: Sequence[str] = ("oil", "amber-and-sky-oils", "pencil")
    outputs: dict[str, list[Picture]] = field(default_factory=dict)  # of each look, once `report` has run
    _flows: list[measures.Flow] = field(default_factory=list)
    _maps: list[measures.Map] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        self._flows = [measures.Flow(clip) for clip in self.clips]
        sources = list(self.photographs.values())
        self._maps = [self.edges(photograph) for photograph in sources]
        known = [self.texture.statistics(photograph) for photograph in sources]
        textures: dict[str, tuple[list[texture.Statistics], list[texture.Statistics]]] = {}
        rows: dict[str, dict[str, float]] = {}
        for look in tqdm(self.looks, desc="looks"):
            taught = [look.teach(photograph) for photograph in sources]
            made = [self.subject.clip([photograph], look.prompt, steps=self.steps)[0] for photograph in sources]
            self.outputs[look.name] = made
            rows[look.name] = {**self._still_figures(sources, taught, made), **self._moving_figures(look)}
            textures[look.name] = ([*map(self.texture.statistics, made)], [*map(self.texture.statistics, taught)])
        scale = texture.scales([*known, *(one for _, theirs in textures.values() for one in theirs)])
        for name, (ours, theirs) in textures.items():
            if np.isfinite(style := texture.share(ours, theirs, known, scale)):
                rows[name]["style"] = style
        return {
            "photographs": list(self.photographs),
            "steps": self.steps,
            "looks": {name: {key: round(value, 3) for key, value in row.items()} for name, row in rows.items()},
            "closest": [[round(gap, 1), a, b] for gap, a, b in measures.closest(self.outputs, CLOSEST)],
            "strength": self._strength_curves(),
            "seeds": self._seeds(),
        }

    def _still_figures(self, sources: list[Picture], taught: list[Picture], made: list[Picture]) -> dict[str, float]:
        """Of single pictures; means over photographs, those without an even place left out of the grain."""
        found: dict[str, list[float]] = {}
        for photograph, source, teacher, output in zip(sources, self._maps, taught, made, strict=True):
            values = {"lattice": meter.lattice(output), "teacher lattice": meter.lattice(teacher)}
            beyond = np.subtract(meter.grain(output, photograph), meter.grain(teacher, photograph))
            values |= {f"grain {channel}": float(value) for channel, value in zip("Lab", beyond, strict=True)}
            values["edges"] = measures.edges_kept(source, self.edges(teacher), self.edges(output))
            values["moved"] = measures.difference(output, photograph)
            for name, value in values.items():
                if np.isfinite(value):
                    found.setdefault(name, []).append(value)
        return {name: float(np.mean(values)) for name, values in found.items()}

    def _moving_figures(self, look: Look) -> dict[str, float]:
        """Of clips and of a still scene."""
        found: dict[str, float] = {}
        shares = []
        for clip, flow in zip(self.clips, self._flows, strict=True):
            ours = flow.error(self.subject.clip(clip, look.prompt, steps=self.steps))
            shares.append(ours / max(flow.error([look.teach(frame) for frame in clip]), 1e-6))
        if shares:
            found["warped"] = float(np.mean(shares))
        still = measures.noisy(next(iter(self.photographs.values())), STILL)
        found["still"] = measures.change(self.subject.clip(still, look.prompt, steps=self.steps)) / measures.change(still)
        return found

    def _strength_curves(self) -> dict[str, dict[str, Any]]:
        """Difference from the photographs in grey levels at each strength, and whether it only grows."""
        found = {}
        for look in self.looks:
            if look.name in self.strengths:
                curve = [self._moved(look.prompt, strength) for strength in STRENGTHS]
                grows = all(b > a for a, b in pairwise(curve))
                found[look.name] = {"strengths": list(STRENGTHS), "moved": [round(v, 1) for v in curve], "grows": grows}
        return found

    def _moved(self, prompt: str, strength: float) -> float:
        made = [(x, self.subject.clip([x], prompt, strength=strength)[0]) for x in self.photographs.values()]
        return float(np.mean([measures.difference(output, x) for x, output in made]))

    def _seeds(self) -> dict[str, float]:
        """Mean difference between seeds of prompts without a picture, for the looks of the strength curves."""
        prompts = [scene.format(look.prompt) for scene in SCENES for look in self.looks if look.name in self.strengths]
        return {prompt: round(measures.spread([self.subject.dream(prompt, seed) for seed in SEEDS]), 1) for prompt in prompts}
