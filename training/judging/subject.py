"""What is judged: the pocket model as the engine runs it, and the teachers of its looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines import Entry, Frame, Settings, StreamSpec, load
from pipelines.networks.painter import Painter
from pipelines.values.vocabulary import Word, read_vocabulary
from studio.cli.serve_options import OPENING
from training.looks import LOOKS
from training.painter.teacher import Teacher
from training.teacher import Request, teacher

Picture = NDArray[np.uint8]
SIDE = 512
BEGUN: Mapping[str, object] = {key: value for key, value in OPENING["pocket"].items() if key != "prompt"}
"""What the studio's sessions begin with, the look left out."""

FPS = 25.0


@dataclass(frozen=True)
class Look:
    """One look: its name, its prompt, and its teacher: a photograph to what it should become."""

    name: str
    prompt: str
    painted: bool
    teach: Callable[[Picture], Picture]


class Engine:
    """The model of a folder in the engine, at SIDE pixels. Every call is a fresh session. begun: what sessions begin with, by
    dotted key."""

    def __init__(self, model: str = "pocket", begun: Mapping[str, object] = BEGUN) -> None:
        self.begun = {**begun, "stream_batch.enabled": False}
        self.pipeline = load(StreamSpec(model=model, width=SIDE, height=SIDE))

    def clip(self, frames: Sequence[Picture], prompt: str, strength: float = 0.5, steps: int = 1, seed: int = 0) -> list[Picture]:
        """A session's pictures, one for each frame."""
        settings = Settings(prompt=prompt, strength=strength, steps=steps, seed=seed).patched(self.begun)
        self.pipeline.prepare(settings)
        state, made = self.pipeline.open(settings), []
        for index, frame in enumerate(frames):
            (output,) = self.pipeline.step([Entry(state, Frame(index, index / FPS, frame), settings)])
            if output.pixels is None:
                raise RuntimeError(f"{prompt!r}: no picture for frame {index} ({output.verdict})")
            made.append(np.array(output.pixels.numpy()))
        return made

    def picture(self, photograph: Picture, prompt: str, strength: float = 0.5, steps: int = 1, seed: int = 0) -> Picture:
        return self.clip([photograph], prompt, strength, steps, seed)[0]

    def dream(self, prompt: str, seed: int) -> Picture:
        """What the prompt alone makes: at full strength nothing of the frame is left."""
        return self.picture(np.zeros((SIDE, SIDE, 3), np.uint8), prompt, strength=1.0, seed=seed)


def looks(folder: Path, teacher: Path) -> list[Look]:
    """All looks of a model folder that have a teacher: classical filters, or the published network in the folder `teacher`."""
    known = read_vocabulary(folder)
    filtered = [Look(word.name, word.prompt, False, _filter(word)) for word in known.looks if word.name in LOOKS]
    if not known.painted:
        return filtered
    published = Teacher(Painter.from_pretrained(teacher), SIDE)
    return filtered + [
        Look(word.name, word.prompt, True, _published(published, word))
        for word in known.painted
        if word.prompt in published.numbers
    ]


def _filter(word: Word) -> Callable[[Picture], Picture]:
    def teach(photograph: Picture) -> Picture:
        x = torch.from_numpy(photograph).permute(2, 0, 1)[None].float() / 255
        return _bytes(teacher(x, Request(word.name))[0] * 255)

    return teach


def _published(published: Teacher, word: Word) -> Callable[[Picture], Picture]:
    def teach(photograph: Picture) -> Picture:
        x = torch.from_numpy(photograph).permute(2, 0, 1).float() / 127.5 - 1
        return _bytes((published.paint(x, word.prompt) + 1) * 127.5)

    return teach


def _bytes(x: torch.Tensor) -> Picture:
    return np.asarray((x + 0.5).clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8))
