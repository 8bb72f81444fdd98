"""A prompt as words: case, accents and width folded, languages without spaces letter by letter. Pure."""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass

NO_SPACES = "\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
"""Kana, Han and Hangul, as a class of a regular expression: words of theirs are found by the longest match."""

WORD = re.compile(rf"[{NO_SPACES}]|(?:(?![{NO_SPACES}])[^\W_])+")
FOLDED = re.compile(r"[a-z0-9]+(?: [a-z0-9]+)*")
LETTERS = {"ø": "o", "ł": "l", "œ": "oe", "æ": "ae", "đ": "d", "ı": "i"}  # these do not decompose
JOINS = frozenset(" -'’_\t\n")
"""What may stand between two words of one phrase."""


@dataclass(frozen=True, slots=True)
class Token:
    """text: folded. start, end: its place in the prompt. apart: whether a sign parts it from the word before."""

    text: str
    start: int
    end: int
    apart: bool = False


@functools.lru_cache(maxsize=4096)
def fold(letter: str) -> str:
    """One character as the table of phrases has it; several letters for some ("ß"), none for an accent."""
    bare = "".join(part for part in unicodedata.normalize("NFKD", letter) if not "\u0300" <= part <= "\u036f")
    folded = unicodedata.normalize("NFC", bare).casefold()
    return "".join(LETTERS.get(part, part) for part in folded)


def tokens(prompt: str) -> list[Token]:
    """The words of a prompt, in order. Every place counts in characters of `prompt`."""
    letters: list[str] = []
    places: list[int] = []
    for place, letter in enumerate(prompt):
        for part in fold(letter):
            letters.append(part)
            places.append(place)
    made: list[Token] = []
    end = 0
    for found in WORD.finditer("".join(letters)):
        start = places[found.start()]
        made.append(Token(found.group(), start, places[found.end() - 1] + 1, not JOINS.issuperset(prompt[end:start])))
        end = made[-1].end
    return made


def key(phrase: str) -> str:
    """A phrase as it is looked up: its folded words, one space between two."""
    if FOLDED.fullmatch(phrase):
        return phrase
    return " ".join(token.text for token in tokens(phrase))


@functools.lru_cache(maxsize=16384)
def stem(word: str) -> str:
    """The singular of an English plural, British spelling: what is left to compare where the word itself is unknown."""
    word = AMERICAN.get(word, word)
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and word[-2] not in "sui":
        word = word[:-1]
    return AMERICAN.get(word, word)


AMERICAN = {"color": "colour", "colored": "coloured", "gray": "grey", "watercolor": "watercolour"}
