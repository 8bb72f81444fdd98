"""Training batches of the denoiser: (picture to noise, target picture, prompt), made on demand.

Four kinds of lessons, one for each use in a stream:

- look: a source to the teacher's picture of it. The first step of a frame.
- again: a picture that has the look already, to itself. The later steps of a frame: without it two steps would draw outlines
  of outlines.
- plain: an empty prompt, from a source or from a picture with a look, to the same picture. Guidance extrapolates away from it.
- scene: a procedural subject with its caption, to itself.

And dreams, which are text to image: a few memorised scenes, mostly from pure noise. The words determine which of a subject's
scenes is the target. So each has one true picture, and regression does not give the mean of many scenes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.format import open_memmap
from torch import Generator, Tensor
from tqdm import tqdm

from training import data, scenes, words
from training.looks import LOOKS
from training.teacher import Request, draw, teacher

KINDS = ("look", "again", "plain", "scene")
DREAM = 999  # the timestep of noise alone
DREAM_SIDE = 512  # pixels at which they are kept
EACH = 2  # dreams of every subject: the first for its first name, which is what the page suggests, the other for all others
FIRST = 0.75  # share of the dreams that are of the first
# dreamt thrice as often
DETAILED = ("rain", "sea", "mountains", "planet", "galaxy", "volcano", "moon", "marble", "flowers", "circles", "stripes")
DREAMT = 5  # the seed of the dreams that the shipped model has memorised
TAKEN = {"rain": (17, 5), "mountains": (6, 26), "planet": (34, 4), "galaxy": (5, 1), "marble": (1, 36)}
"""Indices of a subject's scenes that become its dreams, if not the first EACH: of forty scenes the two for which the perception
network has the highest confidence when only the means of 16 x 16 pixels are left, as in pictures after short training."""
STYLED = 0.2  # share of the dreams with a look, palette or light


@dataclass(frozen=True)
class Mixture:
    """Shares of the kinds in a batch, and the timesteps that most of the noise levels of `look` and `plain` come from."""

    again: float = 0.15
    plain: float = 0.08
    scene: float = 0.12
    focus: tuple[int, int] = (50, 750)  # strengths 0.05 to 0.75
    focused: float = 0.75
    detailed: float = 0.0  # share of sources that are the most detailed of several
    # looks that are met more often
    hard: tuple[str, ...] = (
        *["cartoon"] * 9, *["neon", "oil", "blueprint"] * 5, *["pixel", "impressionist"] * 4, *["photo"] * 3,
        *["popart", "xray", "noir"] * 2, "crayon", "papercut",
    )  # fmt: skip


@dataclass(frozen=True)
class Lessons:
    """One batch: start and target (N, 3, S, S) in [0, 1], prompts, timesteps (N,) of 0..999, subjects of scenes (else ""), looks
    where prompts are just the name of one (else "").
    """

    start: Tensor
    target: Tensor
    prompts: list[str]
    timesteps: Tensor
    subjects: list[str]
    looks: list[str]


@dataclass(frozen=True)
class Scenes:
    """A pool of procedural scenes: pictures uint8 (N, 3, 256, 256), and the subject of each."""

    pictures: np.ndarray
    subjects: list[str]

    def batch(self, n: int, side: int, rng: Generator) -> tuple[Tensor, list[str]]:
        """Scenes shrunk to side x side whole, so that their composition stays, mirrored half of the time."""
        picks = torch.randint(0, len(self.subjects), (n,), generator=rng).tolist()
        x = shrunk(self.pictures[picks], side)
        mirror = torch.rand(n, generator=rng) < 0.5
        return torch.where(mirror.view(n, 1, 1, 1), x.flip(3), x), [self.subjects[k] for k in picks]


@dataclass(frozen=True)
class Dreams:
    """The memorised scenes: EACH of every subject, pictures uint8 (subjects * EACH, 3, 512, 512)."""

    pictures: np.ndarray
    subjects: tuple[str, ...]

    def batch(self, n: int, side: int, rng: Generator, awake: float = 0.0, simple: bool = False) -> Lessons:
        """n dreams of side x side pixels; `awake`, 0..1, is the share that starts from less noise, as later steps do.

        simple: only first scenes, as they are, by their bare names.
        """
        often = torch.tensor([3.0 if subject in DETAILED else 1.0 for subject in self.subjects])
        picks = torch.multinomial(often, n, replacement=True, generator=rng)
        if simple:
            subjects, levels = [self.subjects[k] for k in picks.tolist()], torch.full((n,), DREAM)
            x = shrunk(self.pictures[(picks * EACH).numpy()], side)
            return Lessons(x, x, [words.SCENES[subject][0] for subject in subjects], levels, subjects, [""] * n)
        shown = (torch.rand(n, generator=rng) >= FIRST).long()
        x = shrunk(self.pictures[(picks * EACH + shown).numpy()], side)
        level = torch.where(torch.rand(n, generator=rng) < awake, 200 + 750 * torch.rand(n, generator=rng), float(DREAM))
        subjects, prompts = [self.subjects[k] for k in picks.tolist()], []
        for row, subject in enumerate(subjects):
            request = draw(rng) if float(torch.rand((), generator=rng)) < STYLED else Request()
            if request != Request():
                x[row : row + 1] = teacher(x[row : row + 1], request)
            names = words.SCENES[subject]
            prompts.append(words.scene_caption(subject, request, rng, names[1:] if shown[row] else names[:1]))
        return Lessons(x, x, prompts, level.round().long(), subjects, [""] * n)


def shrunk(pictures: np.ndarray, side: int) -> Tensor:
    """Pictures uint8 (N, 3, S, S) to (N, 3, side, side) in [0, 1]."""
    x = torch.from_numpy(np.array(pictures)).float() / 255
    return x if side == x.shape[-1] else F.interpolate(x, size=(side, side), mode="area")


def dreams(path: Path, seed: int = DREAMT) -> Dreams:
    """The dreams in a file, made where it is missing; a function of the seed."""
    subjects = tuple(scenes.SUBJECTS)
    if not path.exists() or len(np.load(path, mmap_mode="r")) != EACH * len(subjects):
        path.parent.mkdir(parents=True, exist_ok=True)
        made = []
        for k, subject in enumerate(tqdm(subjects, desc="dreams", mininterval=5)):
            rng = Generator().manual_seed(seed * 100_003 + 70_000_000 + k)
            taken = TAKEN.get(subject, tuple(range(EACH)))
            drawn = [scenes.scene(1, DREAM_SIDE, rng, (subject,))[0] for _ in range(max(taken) + 1)]
            made += [drawn[place] for place in taken]
        np.save(path, (torch.cat(made).clamp(0, 1) * 255).round().to(torch.uint8).numpy())
    return Dreams(np.load(path, mmap_mode="r"), subjects)


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
    edges = torch.tensor([mixture.scene, mixture.plain, mixture.again]).cumsum(0)
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
    source = data.batch(store, n, side, rng, detailed=mixture.detailed)
    subjects = [""] * n
    rows = [row for row, kind in enumerate(chosen) if kind == "scene"]
    if rows:
        source[rows], found = named.batch(len(rows), side, rng)
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
    called = [
        r.look if kind in ("look", "again") and r == Request(r.look) else "" for kind, r in zip(chosen, requests, strict=True)
    ]
    levels = timesteps(chosen, mixture, rng)
    return Lessons(torch.where(looks, source, target), target, prompts, levels, subjects, called)


def _prompt(kind: str, subject: str, request: Request, rng: Generator) -> str:
    if kind == "plain":
        return ""
    return words.scene_caption(subject, request, rng) if subject else words.caption(request, rng)
