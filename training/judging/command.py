"""What the commands of this package share: their arguments, and the held-out pictures that they look at."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.judging.subject import Picture
from training.painter import crops, sources
from training.painter.repaint import SIDE, middle

PHOTOGRAPHS = (
    "P009-amateur_selfie", "explore_monuments-tajMahal", "skimage-coffee", "erase-kitten", "P010-studio_portrait",
    "skimage-astronaut",
)  # fmt: skip
CLIPS = ("carphone_pristine", "bigbuckbunny", "bikes")


def parser(command: str, description: str | None, output: Path) -> argparse.ArgumentParser:
    """--model, --runs, and --output with this default."""
    layout = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(prog=f"python -m {command}", description=description, formatter_class=layout)
    made.add_argument("--model", type=Path, default=Path("assets/pocket"), help="a model folder")
    made.add_argument("--runs", type=Path, default=Path("runs"), help="where `python -m training painter` has its sources")
    made.add_argument("--output", type=Path, default=output)
    return made


def held_out(runs: Path) -> dict[str, Path]:
    """The held-out sources by name."""
    folder = runs / "painter/sources"
    return {source.name: folder / source.path for source in sources.read(folder) if source.held_out}


def photograph(path: Path) -> Picture:
    """The middle of a picture, [SIDE, SIDE, 3]."""
    return middle(crops.load(path, SIDE))
