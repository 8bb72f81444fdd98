"""Known phrases: found by the longest match, in the plural too, with one letter wrong, or as parts of a compound. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.techniques.free_words.tokens import Token, key, stem

By = Literal["name", "alias", "spelling", "meaning"]
"""How words were understood: as the model's own name, as a known phrase, with one letter mended, or by likeness of meaning."""

MENDED = 5  # letters that a word must have to be mended
LONGEST = 24  # letters of the longest word that is mended or parted
PART = 3  # letters of the shortest part of a compound
LINKS = ("", "s", "n", "en", "es", "er")  # between the parts of a German compound


@dataclass(frozen=True, slots=True)
class Phrase:
    """means: prompts of the model; () for words without a meaning of their own. own: the text encoder was trained on it.
    general: ignored beside another look ("painting"). subject: names a thing in the picture."""

    means: tuple[str, ...] = ()
    own: bool = False
    general: bool = False
    subject: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """Words first..last of a prompt (both inclusive); phrase None for a word that is in no phrase."""

    first: int
    last: int
    phrase: Phrase | None
    by: By = "alias"


class Lexicon:
    """phrases: as typed, with what they are. ordinary: words that are right as they are, though no phrase has them. parts: words
    that compounds are made of."""

    def __init__(self, phrases: Mapping[str, Phrase], ordinary: Iterable[str] = (), parts: Iterable[str] = ()) -> None:
        self._exact = {key(text): phrase for text, phrase in phrases.items()}
        self._exact.pop("", None)
        self._stemmed = {_stemmed(text): phrase for text, phrase in self._exact.items()} | self._exact
        self._longest = max((text.count(" ") + 1 for text in self._exact), default=0)
        self._words = {word for text in self._exact for word in text.split(" ")}
        self._words |= {stem(word) for word in self._words}
        self._ordinary = frozenset(ordinary)
        self._parts = frozenset(key(part) for part in parts)
        # One wrong letter leaves the first two or the last two as they are.
        self._ends: dict[str, list[str]] = {}
        for word in self._words:
            if MENDED <= len(word) <= LONGEST:
                for end in _ends(word):
                    self._ends.setdefault(end, []).append(word)

    def __len__(self) -> int:
        return len(self._exact)

    def parted(self, found: Sequence[Token]) -> list[Token]:
        """The words with compounds in their parts; both parts have the place of the whole."""
        made: list[Token] = []
        for token in found:
            parts = self._compound(token.text)
            made += [Token(part, token.start, token.end, token.apart and not index) for index, part in enumerate(parts)]
        return made

    def match(self, words: Sequence[str]) -> list[Match]:
        """Every word once, in order: in the longest phrase that begins with it, or alone."""
        mended = [self._mended(word) for word in words]
        made, at = [], 0
        while at < len(words):
            made.append(self._at(words, mended, at))
            at = made[-1].last + 1
        return made

    def _at(self, words: Sequence[str], mended: Sequence[str], at: int) -> Match:
        for length in range(min(self._longest, len(words) - at), 0, -1):
            typed, read = words[at : at + length], mended[at : at + length]
            phrase = self._exact.get(" ".join(read)) or self._stemmed.get(" ".join(map(stem, read)))
            if phrase is not None:
                by: By = "spelling" if list(typed) != list(read) else "name" if phrase.own else "alias"
                return Match(at, at + length - 1, phrase, by)
        return Match(at, at, None)

    def _known(self, word: str) -> bool:
        return word in self._words or stem(word) in self._words or word in self._ordinary or stem(word) in self._ordinary

    def _mended(self, word: str) -> str:
        """The word of a phrase that differs in one letter, or the word itself."""
        if self._known(word) or not MENDED <= len(word) <= LONGEST or not word.isalpha():
            return word
        alike = [known for end in _ends(word) for known in self._ends.get(end, ()) if one_letter_off(word, known)]
        return min(alike, key=lambda known: (known[0] != word[0], known), default=word)

    def _compound(self, word: str) -> tuple[str, ...]:
        if self._known(word) or not 2 * PART <= len(word) <= LONGEST:
            return (word,)
        for at in range(len(word) - PART, PART - 1, -1):
            for link in LINKS:
                left = word[: at - len(link)]
                if word[at:] in self._parts and left in self._parts and word[:at] == left + link:
                    return left, word[at:]
        return (word,)


def one_letter_off(a: str, b: str) -> bool:
    """Whether one letter is missing, too much or another, or two neighbours have changed places."""
    if abs(len(a) - len(b)) > 1:
        return False
    short, long = sorted((a, b), key=len)
    same = next((at for at in range(len(short)) if short[at] != long[at]), len(short))
    rest, other = short[same:], long[same:]
    if len(short) < len(long):
        return rest == other[1:]
    return a != b and (rest[1:] == other[1:] or (rest[:2] == other[1::-1] and rest[2:] == other[2:]))


def _ends(word: str) -> tuple[str, str]:
    return f"{word[:2]}-", f"-{word[-2:]}"


def _stemmed(text: str) -> str:
    return " ".join(map(stem, text.split(" ")))
