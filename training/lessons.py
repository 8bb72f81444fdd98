"""What the denoiser is taught: batches of (picture that is noised, picture that shall come out, prompt), made as they are needed.

Four kinds of lesson, since a stream asks four things of the model:

- look: a source to what the teacher makes of it. The first step of a frame.
- again: a picture that has the look already, to itself. The later steps of a frame: without it two steps would draw outlines
  of outlines.
- plain: an empty prompt, from a source or from a picture with a look, to the same picture. What guidance pushes away from.
- scene: a procedural subject with its caption, to itself. From pure noise this is text to image.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Generator, Tensor
from tqdm import tqdm

from training import data, scenes, words
from training.teacher import Request, draw, teacher

KINDS = ("look", "again", "plain", "scene")


@dataclass(frozen=True)
class Mixture:
    """Shares of the four kinds in a batch, and the timesteps that most of the noise levels of `look` and `plain` come from."""

    again: float = 0.15
    plain: float = 0.08
    scene: float = 0.07
    focus: tuple[int, int] = (50, 750)  # strengths 0.05 to 0.75
    focused: float = 0.75


@dataclass(frozen=True)
class Lessons:
    """One batch: start and target (N, 3, S, S) in [0, 1], prompts and timesteps (N,) of 0..999."""

    start: Tensor
    target: Tensor
    prompts: list[str]
    timesteps: Tensor


@dataclass(frozen=True)
class Scenes:
    """A pool of procedural scenes: pictures uint8 (N, 3, 256, 256), and the subject of each."""

    pictures: np.ndarray
    subjects: list[str]

    def batch(self, n: int, side: int, rng: Generator) -> tuple[Tensor, list[str]]:
        """Scenes shrunk to side x side whole, so that their composition stays, mirrored half of the time."""
        picks = torch.randint(0, len(self.subjects), (n,), generator=rng).tolist()
        x = torch.from_numpy(self.pictures[picks].copy()).float() / 255
        x = torch.nn.functional.interpolate(x, size=(side, side), mode="area")
        mirror = torch.rand(n, generator=rng) < 0.5
        return torch.where(mirror.view(n, 1, 1, 1), x.flip(3), x), [self.subjects[k] for k in picks]


def scene_pool(path: Path, count: int, seed: int) -> Scenes:
    """`count` scenes, rounded up to whole chunks of 20, made or continued where they are missing; a function of the seed."""
    total, names = -(-count // 20) * 20, path.with_suffix(".json")
    known: list[str] = json.loads(names.read_text()) if path.exists() and names.exists() else []
    if len(known) < total:
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (total, 3, data.SIDE, data.SIDE)
        if known and np.load(path, mmap_mode="r").shape != shape:
            known = []
        store = open_memmap(path, mode="r+" if known else "w+", dtype=np.uint8, shape=shape)
        for first in tqdm(range(len(known), total, 20), desc="scenes", unit="chunk", mininterval=5):
            rng = Generator().manual_seed(seed * 100_003 + 50_000_000 + first)
            pictures, subjects = scenes.scene(20, data.SIDE, rng)
            store[first : first + 20] = (pictures.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
            known += subjects
            names.write_text(json.dumps(known))
        store.flush()
    return Scenes(np.load(path, mmap_mode="r"), known[:total])


def kinds(n: int, mixture: Mixture, rng: Generator) -> list[str]:
    """The kind of each of n lessons."""
    edges = torch.tensor([mixture.scene, mixture.scene + mixture.plain, mixture.scene + mixture.plain + mixture.again])
    drawn = torch.bucketize(torch.rand(n, generator=rng), edges).tolist()
    return [("scene", "plain", "again", "look")[k] for k in drawn]


def timesteps(chosen: list[str], mixture: Mixture, rng: Generator) -> Tensor:
    """(N,): look and plain mostly in the focus; again mostly below, where later steps are; scene mostly at high noise."""
    low, high = mixture.focus
    u, narrow = torch.rand(len(chosen), generator=rng), torch.rand(len(chosen), generator=rng) < mixture.focused
    level = {
        "look": torch.where(narrow, low + u * (high - low), u * 999),
        "plain": torch.where(narrow, low + u * (high - low), u * 999),
        "again": u * high,
        "scene": (1 - u**2) * 999,
    }
    return torch.stack([level[kind][row] for row, kind in enumerate(chosen)]).round().long()


@torch.no_grad()
def batch(store: np.ndarray, named: Scenes, n: int, side: int, groups: int, mixture: Mixture, rng: Generator) -> Lessons:
    """n lessons of side x side pixels; rows share `groups` requests, so that the teacher's filters run on batches."""
    chosen = kinds(n, mixture, rng)
    source = data.batch(store, n, side, rng)
    subjects = [""] * n
    rows = [row for row, kind in enumerate(chosen) if kind == "scene"]
    if rows:
        source[rows], found = named.batch(len(rows), side, rng)
        for row, subject in zip(rows, found, strict=True):
            subjects[row] = subject
    requests = [draw(rng) for _ in range(groups)]
    requests = [requests[row * groups // n] for row in range(n)]
    for row in rows:  # half of the scenes are plain photographs of the subject
        if float(torch.rand((), generator=rng)) < 0.5:
            requests[row] = Request()
    target = source.clone()
    bare = torch.rand(n, generator=rng) < 0.5
    for request in dict.fromkeys(requests):
        members = [row for row in range(n) if requests[row] == request and not (chosen[row] == "plain" and bare[row])]
        if members:
            target[members] = teacher(source[members], request)
    looks = torch.tensor([kind == "look" for kind in chosen]).view(-1, 1, 1, 1)
    prompts = [_prompt(kind, subject, request, rng) for kind, subject, request in zip(chosen, subjects, requests, strict=True)]
    return Lessons(torch.where(looks, source, target), target, prompts, timesteps(chosen, mixture, rng))


def _prompt(kind: str, subject: str, request: Request, rng: Generator) -> str:
    if kind == "plain":
        return ""
    return words.scene_caption(subject, request, rng) if kind == "scene" else words.caption(request, rng)
