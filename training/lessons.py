"""What the denoiser is taught: batches of (picture that is noised, picture that shall come out, prompt), made as they are needed.

Four kinds of lesson, since a stream asks four things of the model:

- look: a source to what the teacher makes of it. The first step of a frame.
- again: a picture that has the look already, to itself. The later steps of a frame: without it two steps would draw outlines
  of outlines.
- plain: an empty prompt, from a source or from a picture with a look, to the same picture. What guidance pushes away from.
- scene: a procedural subject with its caption, to itself.
- dream: the same from nothing but noise, which is text to image.

What a dream shows is hidden in the coarse part of its noise: among all scenes of a subject and as many draws of noise the best
assignment is taken (minibatch optimal transport, Pooladian et al. 2023, arXiv 2304.14772). The noise stays normally distributed,
but a regression from it no longer has to answer with the mean of all scenes, and noise that walks moves the picture.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.format import open_memmap
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor
from tqdm import tqdm

from training import data, scenes, words
from training.looks import LOOKS
from training.teacher import Request, draw, teacher

KINDS = ("look", "again", "plain", "scene", "dream")
COARSE = 4  # cells along a side of the part of the noise that scenes are assigned to


@dataclass(frozen=True)
class Mixture:
    """Shares of the kinds in a batch, and the timesteps that most of the noise levels of `look` and `plain` come from."""

    again: float = 0.15
    plain: float = 0.08
    scene: float = 0.12
    dream: float = 0.12
    focus: tuple[int, int] = (50, 750)  # strengths 0.05 to 0.75
    focused: float = 0.75
    hard: tuple[str, ...] = ("neon", "neon", "blueprint", "blueprint", "oil", "cartoon", "impressionist")  # met more often


@dataclass(frozen=True)
class Lessons:
    """One batch: start and target (N, 3, S, S) in [0, 1], prompts, timesteps (N,) of 0..999, subjects of scenes (else ""), looks
    where prompts are just the name of one (else "").

    noise (D, C, 4, 4) is the coarse part of the noise of the rows `dreams`, (D,).
    """

    start: Tensor
    target: Tensor
    prompts: list[str]
    timesteps: Tensor
    subjects: list[str]
    looks: list[str]
    dreams: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Scenes:
    """A pool of procedural scenes: pictures uint8 (N, 3, 256, 256), and the subject of each."""

    pictures: np.ndarray
    subjects: list[str]
    noise: Tensor | None = None  # (draws, N, 2, C, 4, 4): coarse noise of every scene and its mirror image

    def batch(self, n: int, side: int, rng: Generator) -> tuple[Tensor, list[str], Tensor | None]:
        """Scenes shrunk to side x side whole, so that their composition stays, mirrored half of the time; what they are; the
        coarse noise (n, C, 4, 4) of each, where the pool has it.
        """
        picks = torch.randint(0, len(self.subjects), (n,), generator=rng)
        x = torch.from_numpy(self.pictures[picks.numpy()].copy()).float() / 255
        if side != x.shape[-1]:
            x = F.interpolate(x, size=(side, side), mode="area" if side < x.shape[-1] else "bicubic").clamp(0, 1)
        mirror = torch.rand(n, generator=rng) < 0.5
        x = torch.where(mirror.view(n, 1, 1, 1), x.flip(3), x)
        found = None
        if self.noise is not None:
            draw = torch.randint(0, len(self.noise), (n,), generator=rng)
            found = self.noise[draw, picks, mirror.long()].float()
        return x, [self.subjects[k] for k in picks.tolist()], found


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


@torch.no_grad()
def with_noise(named: Scenes, encode: Callable[[Tensor], Tensor], seed: int, draws: int = 4) -> Scenes:
    """The pool with coarse noise for every scene: within a subject the assignment of equally many normal draws to scenes that
    makes the sum of their inner products with the scenes' coarse latents largest.

    encode: pictures (N, 3, S, S) in [0, 1] to latents (N, C, S/8, S/8).
    """
    coarse = []
    for first in range(0, len(named.subjects), 50):
        x = torch.from_numpy(named.pictures[first : first + 50].copy()).float() / 255
        both = encode(torch.cat([x, x.flip(3)]))
        coarse.append(F.adaptive_avg_pool2d(both, COARSE).unflatten(0, (2, -1)).transpose(0, 1).cpu())
    latents = torch.cat(coarse)  # [N, 2, C, 4, 4]
    rng = Generator().manual_seed(seed + 66_000)
    noise = torch.randn((draws, *latents.shape), generator=rng)
    subjects = np.array(named.subjects)
    for subject in dict.fromkeys(named.subjects):
        rows = torch.from_numpy(np.flatnonzero(subjects == subject))
        known = latents[rows].flatten(0, 1).flatten(1)
        known = known - known.mean(0)
        for drawn in noise:
            free = drawn[rows].flatten(0, 1)
            _, order = linear_sum_assignment((known @ free.flatten(1).T).numpy(), maximize=True)
            drawn[rows] = free[torch.from_numpy(order)].unflatten(0, (len(rows), 2))
    return dataclasses.replace(named, noise=noise.half())


def coarsely(noise: Tensor, coarse: Tensor) -> Tensor:
    """Normal noise (N, C, h, w) whose means over 4 x 4 cells are those of `coarse` (N, C, 4, 4), which has the variance 1.

    h and w are multiples of 4. Where `coarse` is normal, so is the result.
    """
    cell = (noise.shape[-2] // COARSE, noise.shape[-1] // COARSE)
    change = coarse / (cell[0] * cell[1]) ** 0.5 - F.avg_pool2d(noise, cell)
    return noise + change.repeat_interleave(cell[0], 2).repeat_interleave(cell[1], 3)


def kinds(n: int, mixture: Mixture, rng: Generator) -> list[str]:
    """The kind of each of n lessons."""
    edges = torch.tensor([mixture.dream, mixture.scene, mixture.plain, mixture.again]).cumsum(0)
    drawn = torch.bucketize(torch.rand(n, generator=rng), edges).tolist()
    return [("dream", "scene", "plain", "again", "look")[k] for k in drawn]


def timesteps(chosen: list[str], mixture: Mixture, rng: Generator) -> Tensor:
    """(N,): look and plain mostly in the focus; again mostly below, where later steps are; scene mostly at high noise."""
    low, high = mixture.focus
    u, narrow = torch.rand(len(chosen), generator=rng), torch.rand(len(chosen), generator=rng) < mixture.focused
    level = {
        "look": torch.where(narrow, low + u * (high - low), u * 999),
        "plain": torch.where(narrow, low + u * (high - low), u * 999),
        "again": u * high,
        "scene": (1 - u**2) * 999,
        "dream": torch.full_like(u, 999.0),
    }
    return torch.stack([level[kind][row] for row, kind in enumerate(chosen)]).round().long()


@torch.no_grad()
def batch(store: np.ndarray, named: Scenes, n: int, side: int, groups: int, mixture: Mixture, rng: Generator) -> Lessons:
    """n lessons of side x side pixels; rows share `groups` requests, so that the teacher's filters run on batches."""
    chosen = kinds(n, mixture, rng)
    source = data.batch(store, n, side, rng)
    subjects = [""] * n
    rows = [row for row, kind in enumerate(chosen) if kind in ("scene", "dream")]
    coarse = None
    if rows:
        source[rows], found, coarse = named.batch(len(rows), side, rng)
        for row, subject in zip(rows, found, strict=True):
            subjects[row] = subject
    requests = [draw(rng, (*LOOKS, *mixture.hard)) for _ in range(groups)]
    requests = [requests[row * groups // n] for row in range(n)]
    for row in rows:  # two scenes of three are plain photographs of the subject
        if float(torch.rand((), generator=rng)) < 0.67:
            requests[row] = Request()
    target = source.clone()
    bare = torch.rand(n, generator=rng) < 0.5
    for request in dict.fromkeys(requests):
        members = [row for row in range(n) if requests[row] == request and not (chosen[row] == "plain" and bare[row])]
        if members:
            target[members] = teacher(source[members], request)
    looks = torch.tensor([kind == "look" for kind in chosen]).view(-1, 1, 1, 1)
    prompts = [_prompt(kind, subject, request, rng) for kind, subject, request in zip(chosen, subjects, requests, strict=True)]
    dreams = [k for k, row in enumerate(rows) if chosen[row] == "dream"] if coarse is not None else []
    called = [
        r.look if kind in ("look", "again") and r == Request(r.look) else "" for kind, r in zip(chosen, requests, strict=True)
    ]
    return Lessons(
        torch.where(looks, source, target), target, prompts, timesteps(chosen, mixture, rng), subjects, called,
        torch.tensor(rows)[dreams].long(), coarse[dreams] if coarse is not None else torch.empty(0),
    )  # fmt: skip


@torch.no_grad()
def large_dream(side: int, channels: int, rng: Generator) -> Lessons:
    """One dream of a scene that is drawn for it at a size that the pool does not have; its noise is free."""
    x, (subject,) = scenes.scene(1, side, rng)
    x = x.clamp(0, 1)
    coarse = torch.randn((1, channels, COARSE, COARSE), generator=rng)
    prompt = words.scene_caption(subject, Request(), rng)
    return Lessons(x, x, [prompt], torch.tensor([999]), [subject], [""], torch.tensor([0]), coarse)


def _prompt(kind: str, subject: str, request: Request, rng: Generator) -> str:
    if kind == "plain":
        return ""
    return words.scene_caption(subject, request, rng) if subject else words.caption(request, rng)
