"""The syntax of prompts for Stable Diffusion, as AUTOMATIC1111's web page introduced it. Pure.

(word) weighs 1.1, ((word)) 1.21, [word] 1/1.1, (word:1.3) 1.3; a backslash makes a bracket a character. BREAK begins a new part,
which the text encoder reads by itself. <lora:NAME:0.8> names a LoRA and is no text. Other syntax is removed and listed: AND,
[a|b] and [a:b:0.5].
"""

from __future__ import annotations

import re
from dataclasses import dataclass

STEP = 1.1
MAX_WEIGHT = 4.0
TOKEN = re.compile(r"\\[()\[\]\\]|:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)|[()\[\]]|[^\\()\[\]:]+|.", re.DOTALL)
REMOVED = (
    (re.compile(r"<[a-z]+:[^<>]*>", re.IGNORECASE), "of such tags <lora:NAME:WEIGHT> is, with a weight from -4 to 4"),
    (re.compile(r"\bAND\b(?::\s*[\d.]+)?"), "a picture has one prompt; mix two by prompt_b and blend, or use BREAK"),
    (re.compile(r"(?<!\\)\[[^\[\]]*(?<!\\)[|:][^\[\]]*\]"), "a prompt does not change from step to step"),
)
"""What is removed → what to do instead."""

BREAK = re.compile(r"\bBREAK\b")
Fragments = tuple[tuple[str, float], ...]
"""Texts with their weights, in order."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Syntax that was removed from a prompt, and what to do instead."""

    words: str
    instead: str

    @property
    def message(self) -> str:
        return f"{self.words!r} is not supported and not drawn: {self.instead}"


LORA = re.compile(r"<lora:([^<>:]+)(?::\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*)?>", re.IGNORECASE)
MAX_LORA = 4.0


@dataclass(frozen=True, slots=True)
class LoraTag:
    """A LoRA that a prompt names: the words of the tag, the file's name without its ending, and the weight, -4 to 4."""

    words: str
    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Weighted:
    """A prompt as parts, each of texts with their weights, what was removed from it, and the LoRAs that it names. Without a word
    it has no part."""

    parts: tuple[Fragments, ...]
    unsupported: tuple[Unsupported, ...] = ()
    loras: tuple[LoraTag, ...] = ()

    @property
    def fragments(self) -> Fragments:
        """Of all parts."""
        return tuple(fragment for part in self.parts for fragment in part)

    @property
    def plain(self) -> str:
        """The prompt without weights and brackets."""
        return " ".join(" ".join("".join(text for text, _ in part) for part in self.parts).split())

    @property
    def weighs(self) -> bool:
        """Whether a weight differs from 1."""
        return any(weight != 1.0 for _, weight in self.fragments)


def parse(prompt: str) -> Weighted:
    """The fragments of a prompt. Every text is valid: a bracket without its partner weighs what follows, as there."""
    loras = lora_tags(prompt)
    for tag in loras:
        prompt = prompt.replace(tag.words, " " * len(tag.words))
    text, unsupported = _removed(prompt)
    found: list[list[str | float]] = []
    round_brackets: list[int] = []
    square_brackets: list[int] = []

    def multiply(start: int, factor: float) -> None:
        for fragment in found[start:]:
            fragment[1] = float(fragment[1]) * factor

    for token in TOKEN.findall(text):
        if token == "(":
            round_brackets.append(len(found))
        elif token == "[":
            square_brackets.append(len(found))
        elif token == ")" and round_brackets:
            multiply(round_brackets.pop(), STEP)
        elif token == "]" and square_brackets:
            multiply(square_brackets.pop(), 1 / STEP)
        elif token[0] == ":" and token[-1] == ")" and round_brackets:
            weight = float(token[1:-1])
            if not 0.0 <= weight <= MAX_WEIGHT:
                unsupported.append(Unsupported(token[1:-1].strip(), f"a weight from 0 to {MAX_WEIGHT:g} is allowed"))
                weight = 1.0
            multiply(round_brackets.pop(), weight)
        else:
            found.append([token[1:] if token[0] == "\\" and len(token) == 2 else token, 1.0])
    for start in round_brackets:
        multiply(start, STEP)
    for start in square_brackets:
        multiply(start, 1 / STEP)
    return Weighted(tuple(filter(None, map(_joined, _divided(found)))), tuple(unsupported), loras)


def lora_tags(prompt: str) -> tuple[LoraTag, ...]:
    """The LoRAs that a prompt names by <lora:NAME:WEIGHT>, in order; without those whose weight is out of range."""
    found = (LoraTag(match[0], match[1].strip(), float(match[2] or 1)) for match in LORA.finditer(prompt))
    return tuple(tag for tag in found if tag.name and abs(tag.weight) <= MAX_LORA)


def _removed(prompt: str) -> tuple[str, list[Unsupported]]:
    """The prompt without unsupported syntax, and the list of it in the order of the prompt."""
    places: list[tuple[int, Unsupported]] = []
    for pattern, instead in REMOVED:
        places += [(match.start(), Unsupported(match[0], instead)) for match in pattern.finditer(prompt)]
        prompt = pattern.sub(lambda match: " " * len(match[0]), prompt)
    return prompt, [one for _, one in sorted(places, key=lambda place: place[0])]


def _divided(found: list[list[str | float]]) -> list[list[list[str | float]]]:
    """The fragments between the BREAKs, which may stand within brackets."""
    parts: list[list[list[str | float]]] = [[]]
    for text, weight in found:
        for index, piece in enumerate(BREAK.split(str(text))):
            if index:
                parts.append([])
            parts[-1].append([piece, weight])
    return parts


def _joined(found: list[list[str | float]]) -> Fragments:
    """Neighbours of one weight together, and blanks with what is before them."""
    merged: list[tuple[str, float]] = []
    for text, weight in ((str(text), float(weight)) for text, weight in found):
        if merged and (merged[-1][1] == weight or not text.strip()):
            merged[-1] = (merged[-1][0] + text, merged[-1][1])
        else:
            merged.append((text, weight))
    return tuple((text, weight) for text, weight in merged if text.strip())
