"""Rill beside the pipelines that people use with OpenVINO on a CPU: optimum-intel's, and FastSD CPU's path through it.

A stock miniature that all of them load: blocks of Stable Diffusion with fewer channels, AutoencoderTiny as published, random
weights. Each makes one step at the same timestep from the same noise, picture to picture, in the same precision, with OpenVINO's
own choice of threads. The peers' process is idle while Rill computes, and the other way round.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import numpy as np

from benchmarks import openvino_peer, shapes
from benchmarks.measure import ratios, rounded_median
from benchmarks.openvino_peer import LANES
from benchmarks.peer_environment import ROOT, Peer, python_of
from pipelines import Pixels, quality
from pipelines.techniques.noise import LEVEL_STRIDE

SHAPE, PROMPT = "sd-mini", "oil painting"
HINTS = {"float32": "f32", "bfloat16": "bf16"}
"""dtype → OpenVINO's INFERENCE_PRECISION_HINT."""


class Measured(Protocol):
    """A pipeline that runs blocks of pictures."""

    fps: list[float]
    milliseconds: list[float]

    def block(self, pictures: Sequence[Pixels]) -> None: ...


@dataclass
class PeerLane:
    """A lane of the peers' process. folder: for pictures."""

    peer: Peer
    name: str
    folder: Path
    fps: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)

    def block(self, pictures: Sequence[Pixels]) -> None:
        spent = self._run(pictures, None)
        self.milliseconds += spent
        self.fps.append(1000 * len(spent) / sum(spent))

    def made(self, pictures: Sequence[Pixels]) -> list[Pixels]:
        """What it makes of these pictures."""
        saved = self.folder / "made.npy"
        self._run(pictures, saved)
        return list(np.load(saved))

    def _run(self, pictures: Sequence[Pixels], save: Path | None) -> list[float]:
        given = self.folder / "given.npy"
        np.save(given, np.stack(pictures))
        answer = self.peer.ask({"lane": self.name, "pictures": str(given), "save": None if save is None else str(save)})
        return [float(value) for value in answer["milliseconds"]]


def checkpoint(folder: Path) -> Path:
    return shapes.save(folder / "stock", SHAPE)


def command(python: Path, model: Path, export: Path, size: int, dtype: str, seed: int) -> list[str]:
    """The peers' process. seed: of Rill's stream; the noise of its first level is of another."""
    script = [str(python), "-P", str(ROOT / "benchmarks" / "openvino_peer.py"), str(model), str(export)]
    noise = str((seed + LEVEL_STRIDE) % 2**63)
    return [*script, "--size", str(size), "--precision", HINTS[dtype], "--prompt", PROMPT, "--seed", noise]


def take_turns(lanes: Sequence[Measured], pictures: Sequence[Pixels], blocks: int) -> None:
    for index in range(blocks):
        for turn in range(len(lanes)):
            lanes[(index + turn) % len(lanes)].block(pictures)


def exports(environment: Path, model: Path) -> Path:
    """Where the checkpoint's export is kept, with its environment: exporting takes minutes."""
    digest = hashlib.sha256(Path(openvino_peer.__file__).read_bytes())
    for path in sorted(model.rglob("*")):
        digest.update(path.read_bytes() if path.is_file() else b"")
    return environment / "exports" / digest.hexdigest()[:12]


def measure(
    environment: Path, model: Path, ours: Measured, transform: Any, dtype: str, pictures: Sequence[Pixels], blocks: int, seed: int
) -> dict[str, Any]:
    """Rates of all lanes. environment: the peers' own; model: the checkpoint; ours, transform: Rill's lane on it, and the
    same as a function from picture to picture."""
    with tempfile.TemporaryDirectory() as folder:
        where, size = Path(folder), pictures[0].shape[0]
        with Peer(command(python_of(environment), model, exports(environment, model), size, dtype, seed)) as peer:
            lanes = {name: PeerLane(peer, name, where) for name in LANES}
            few = pictures[:3]
            expected = [transform(picture) for picture in few]  # also a warm-up
            alike = {name: _likeness(lane.made(few), expected) for name, lane in lanes.items()}
            take_turns([ours, *lanes.values()], pictures, blocks)
            versions = peer.versions
    found: dict[str, Measured] = {f"rill openvino {dtype}": ours} | {f"{name} {dtype}": lane for name, lane in lanes.items()}
    about = {"size": size, "shape": SHAPE, "dtype": dtype, "blocks": blocks, "frames_per_block": len(pictures)}
    likeness = [None, *alike.values()]
    rates = {name: _rates(lane, ours, ssim) for (name, lane), ssim in zip(found.items(), likeness, strict=True)}
    return {**about, "versions": versions, "lanes": rates}


def _likeness(made: Sequence[Pixels], expected: Sequence[Pixels]) -> float:
    return round(fmean(quality.ssim(a, b) for a, b in zip(made, expected, strict=True)), 4)


def _rates(lane: Measured, ours: Measured, ssim: float | None) -> dict[str, Any]:
    return {
        "generated_fps": rounded_median(lane.fps, 2),
        "ms_per_frame": rounded_median(lane.milliseconds, 2),
        "times_faster_than_it": rounded_median(ratios(ours.fps, lane.fps)),
        "ssim_to_rill": ssim,
    }


def table(result: dict[str, Any]) -> str:
    lines = [f"{'':26}{'fps':>8}{'ms':>10}{'ours is':>10}{'SSIM':>9}"]
    for name, f in result["lanes"].items():
        alike = "-" if f["ssim_to_rill"] is None else f["ssim_to_rill"]
        lines.append(f"{name:26}{f['generated_fps']:>8}{f['ms_per_frame']:>10}{f['times_faster_than_it']:>9}×{alike:>9}")
    return "\n".join(lines)
