"""Words that a server does not accept in prompts: a list from a file, compared as whole words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from pipelines import Settings, SettingsError

PROMPTS = ("prompt", "prompt_b", "negative")
MAX_BYTES = 2**20


class Blocklist:
    """Refuses prompts that hold one of `entries`: words or phrases, without regard to case, accents, width and punctuation.

    It compares words, not meanings: another spelling, another language or a paraphrase passes.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._entries = frozenset(plain for entry in entries if (plain := _plain(entry)))

    def __len__(self) -> int:
        return len(self._entries)

    def check(self, settings: Settings) -> None:
        """Raises SettingsError naming the prompt's field; the word itself is not repeated."""
        if not self._entries:
            return
        for field in PROMPTS:
            text = f" {_plain(getattr(settings, field))} "
            if any(f" {entry} " in text for entry in self._entries):
                raise SettingsError(field, "holds a word that this server does not allow")


def read_blocklist(path: Path) -> Blocklist:
    """The filter of a UTF-8 file: one word or phrase a line, what follows # is a comment. Raises OSError, ValueError."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES >> 20} MB")
    lines = path.read_text(encoding="utf-8").splitlines()
    words = Blocklist(line.partition("#")[0] for line in lines)
    if not len(words):
        raise ValueError("holds no words")
    return words


def _plain(text: str) -> str:
    """Lower case without accents, words apart by single spaces."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(char for char in decomposed if not unicodedata.combining(char))
    return " ".join(re.findall(r"\w+", bare.replace("_", " ")))
