"""The vocabulary of a model: looks, modifiers and scenes from `looks.json` in its folder, and painted looks from
`painter/config.json`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.values.picture_style import MAX_BYTES, PictureStyle, read_style
from pipelines.values.reader import ModelFolder, read_bytes
from pipelines.values.types import ModelError

FILE = "looks.json"
LARGEST = 1_000_000  # bytes
KINDS = ("looks", "modifiers", "scenes")
PAINTER = "painter/config.json"
STYLE_READER = "style_reader/config.json"
STYLES = "styles"
UNDERPAINTING = "photo"
"""The prompt of the picture below the paint."""

FIELDS = ("name", "title", "prompt", "group")


@dataclass(frozen=True, slots=True)
class Word:
    """One entry of the vocabulary: a name for programs, a title for people, its prompt, and its group."""

    name: str
    title: str
    prompt: str
    group: str


@dataclass(frozen=True, slots=True)
class PaintedLook(Word):
    """A look that the painter draws. paint: (row in the painter's table of styles, share) of each of its styles; the shares
    sum to 1. over: the prompt of the picture below the paint. made: the style of a picture that it is instead, with a name of its
    own."""

    paint: tuple[tuple[int, float], ...]
    over: str = UNDERPAINTING
    made: PictureStyle | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All entries of a model; empty for a folder without a list. pictures: its painter takes pictures as styles."""

    looks: tuple[Word, ...] = ()
    modifiers: tuple[Word, ...] = ()
    scenes: tuple[Word, ...] = ()
    painted: tuple[PaintedLook, ...] = ()
    pictures: bool = False


@functools.lru_cache(maxsize=32)
def read_vocabulary(folder: Path) -> Vocabulary:
    """The list in a model's folder, read once. Raises ModelError, which names the invalid field."""
    listed = _read(folder, FILE)
    if not set(listed) <= set(KINDS):
        raise ModelError(f"{FILE}: may have the keys {', '.join(KINDS)}")
    words = {kind: _words(kind, listed.get(kind, [])) for kind in KINDS}
    painted = _painted(_read(folder, PAINTER).get("looks") or {}, {look.prompt: look for look in words["looks"]})
    prompts = {look.prompt for look in painted}
    words["looks"] = tuple(look for look in words["looks"] if look.prompt not in prompts)
    painted += _named(ModelFolder(folder), {word.prompt.casefold() for word in (*painted, *words["looks"])})
    return Vocabulary(**words, painted=painted, pictures=ModelFolder(folder).has(STYLE_READER))


def _named(folder: ModelFolder, taken: set[str]) -> tuple[PaintedLook, ...]:
    """The styles of pictures in the folder, by their names. Raises ModelError for a name that another look has."""
    made = []
    for path in folder.files(STYLES, "*.safetensors", MAX_BYTES):
        label = f"{folder.name}/{STYLES}/{path.name}"
        style = read_style(read_bytes(path, label, MAX_BYTES), label)
        if not style.name or style.name.casefold() in taken:
            raise ModelError(f"{label}: its name {style.name!r} must be one that no other look has")
        taken.add(style.name.casefold())
        name, title = style.name.replace(" ", "-"), style.name[:1].upper() + style.name[1:]
        made.append(PaintedLook(name, title, style.name, "paintings", (), made=style))
    return tuple(made)


def _read(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of the folder; empty if the file is missing. Raises ModelError."""
    inside = ModelFolder(folder)
    return inside.json(name, LARGEST) if inside.has(name) else {}


def _words(kind: str, entries: Any) -> tuple[Word, ...]:
    if not isinstance(entries, list):
        raise ModelError(f"{FILE}: {kind} must be a list")
    words = []
    for index, entry in enumerate(entries):
        if (
            not isinstance(entry, dict)
            or set(entry) != set(FIELDS)
            or not all(isinstance(entry[f], str) and entry[f] for f in FIELDS)
        ):
            raise ModelError(f"{FILE}: {kind}[{index}] must have the texts {', '.join(FIELDS)} and nothing else")
        words.append(Word(**entry))
    names = [word.name for word in words]
    if len(set(names)) < len(names):
        raise ModelError(f"{FILE}: {kind} has a name twice")
    return tuple(words)


def _painted(looks: Any, known: Mapping[str, Word]) -> tuple[PaintedLook, ...]:
    """Painted looks from {prompt: {row of the table of styles: share}}. One that has the prompt of a known look replaces it, and
    keeps its name, title and group."""
    if not isinstance(looks, dict):
        raise ModelError(f"{PAINTER}: looks must be an object")
    made = []
    for prompt, shares in looks.items():
        if not (isinstance(shares, dict) and all(map(_is_share, shares.items())) and abs(sum(shares.values()) - 1) < 1e-6):
            raise ModelError(f"{PAINTER}: looks: {prompt!r} must be an object of rows and shares that sum to 1")
        paint = tuple((int(row), float(share)) for row, share in shares.items())
        word = known.get(prompt) or Word(prompt.replace(" ", "-"), prompt.capitalize(), prompt, "painted")
        made.append(PaintedLook(word.name, word.title, prompt, word.group, paint))
    return tuple(made)


def _is_share(pair: tuple[str, Any]) -> bool:
    """Whether a pair is (row, as a JSON key; share)."""
    row, share = pair
    return row.isascii() and row.isdigit() and isinstance(share, int | float) and not isinstance(share, bool)
