"""Sheets of what ships, to be looked at: all looks, strengths, steps, styles of paintings, and a moving clip.

    python -m training.judging.sheets --output runs/sheets

Held-out photographs, 512 x 512, out of the engine. `looks.jpg` is also the sheet of the model card.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from pipelines.values.vocabulary import Word, read_vocabulary
from training.judging import command, judge
from training.judging.command import CLIPS, PHOTOGRAPHS
from training.judging.judge import STRENGTHS
from training.judging.subject import Engine, Picture

LABEL = 14  # pixels
TILE = 96
LARGE = 256
ACROSS = 3  # looks beside each other
SHOWN = ("photo", "noir", "neon", "oil", "watercolour", "pencil")
MOVING = ("watercolour", "amber-and-sky-oils", "pencil", "cartoon")
FRAMES = 32


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command.parser("training.judging.sheets", __doc__, Path("runs/sheets"))
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)
    paths = command.held_out(args.runs)
    photographs = [command.photograph(paths[name]) for name in PHOTOGRAPHS]
    engine, known = Engine(str(args.model)), read_vocabulary(args.model)
    words = {word.name: word for word in (*known.looks, *known.painted)}
    _save(all_looks(engine, [*known.looks, *known.painted], photographs), args.output / "looks.jpg")
    chosen = [words[name] for name in SHOWN if name in words]
    _save(by_strength(engine, chosen, photographs[:2]), args.output / "strengths.jpg")
    _save(by_steps(engine, chosen, photographs[:2]), args.output / "steps.jpg")
    moving(engine, [words[name] for name in MOVING if name in words], paths[CLIPS[0]], args.output / "clip.webp")


def all_looks(engine: Engine, looks: Sequence[Word], photographs: Sequence[Picture]) -> Picture:
    """A row of photographs, then ACROSS looks in each row."""
    first = _labelled(np.concatenate([_scaled(photograph, TILE) for photograph in photographs], 1), "held-out photographs")
    blocks = [first]
    for look in tqdm(looks, desc="looks"):
        made = [_scaled(engine.picture(photograph, look.prompt), TILE) for photograph in photographs]
        blocks.append(_labelled(np.concatenate(made, 1), look.prompt))
    return _grid(blocks, ACROSS)


def by_strength(engine: Engine, looks: Sequence[Word], photographs: Sequence[Picture]) -> Picture:
    """A row for each look: each photograph at all strengths."""
    rows = []
    for look in tqdm(looks, desc="strengths"):
        made = [engine.picture(x, look.prompt, strength) for x in photographs for strength in STRENGTHS]
        labels = [f"{look.prompt}, {strength}" for _ in photographs for strength in STRENGTHS]
        rows.append(np.concatenate([_labelled(_scaled(y, LARGE), t) for y, t in zip(made, labels, strict=True)], 1))
    return np.concatenate(rows)


def by_steps(engine: Engine, looks: Sequence[Word], photographs: Sequence[Picture]) -> Picture:
    """A row for each look: each photograph at one to four steps."""
    rows = []
    for look in tqdm(looks, desc="steps"):
        counts = [(x, steps) for x in photographs for steps in (1, 2, 3, 4)]
        made = [_labelled(_scaled(engine.picture(x, look.prompt, steps=n), LARGE), f"{look.prompt}, {n}") for x, n in counts]
        rows.append(np.concatenate(made, 1))
    return np.concatenate(rows)


def moving(engine: Engine, looks: Sequence[Word], clip: Path, path: Path) -> None:
    """Writes an animation: the clip and its looks beside each other."""
    frames = judge.frames(clip, FRAMES)
    shown = [frames, *(engine.clip(frames, look.prompt) for look in tqdm(looks, desc="clip"))]
    pictures = [np.concatenate([_scaled(row[k], LARGE) for row in shown], 1) for k in range(len(frames))]
    first, *rest = (Image.fromarray(picture) for picture in pictures)
    first.save(path, save_all=True, append_images=rest, duration=40, loop=0, quality=70, method=4)


def _scaled(picture: Picture, side: int) -> Picture:
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _labelled(picture: Picture, text: str) -> Picture:
    """The picture with a line of text above it."""
    image = Image.new("RGB", (picture.shape[1], LABEL), "white")
    ImageDraw.Draw(image).text((3, 1), text, fill="black")
    return np.concatenate([np.asarray(image), picture])


def _grid(blocks: Sequence[Picture], across: int) -> Picture:
    blank = np.full_like(blocks[0], 255)
    padded = [*blocks, *[blank] * (-len(blocks) % across)]
    rows = [np.concatenate(padded[k : k + across], 1) for k in range(0, len(padded), across)]
    return np.concatenate(rows)


def _save(picture: Picture, path: Path) -> None:
    Image.fromarray(picture).save(path, quality=76, optimize=True)
    print(f"{path}: {path.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
