"""What a model can be asked for, from `looks.json` in its folder: looks, what may be added to them, scenes from nothing."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.types import ModelError

FILE = "looks.json"
LARGEST = 1_000_000  # bytes
KINDS = ("looks", "modifiers", "scenes")
FIELDS = ("name", "title", "prompt", "group")


@dataclass(frozen=True, slots=True)
class Word:
    """One thing to ask for: a name for programs, a title for people, a prompt that asks for it, the group that it belongs to."""

    name: str
    title: str
    prompt: str
    group: str


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All that a model says it knows; empty for a folder without a list."""

    looks: tuple[Word, ...] = ()
    modifiers: tuple[Word, ...] = ()
    scenes: tuple[Word, ...] = ()


@functools.lru_cache(maxsize=32)
def read_vocabulary(folder: Path) -> Vocabulary:
    """The list in a model's folder, read once. ModelError, which names the field, for one that is not as it should be."""
    path = folder / FILE
    if not path.is_file():
        return Vocabulary()
    try:
        if path.stat().st_size > LARGEST:
            raise ModelError(f"{FILE}: is larger than {LARGEST} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{FILE}: is not readable: {error}") from error
    if not isinstance(content, dict) or not set(content) <= set(KINDS):
        raise ModelError(f"{FILE}: must be a JSON object with the keys {', '.join(KINDS)}")
    return Vocabulary(**{kind: _words(kind, content.get(kind, [])) for kind in KINDS})


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
