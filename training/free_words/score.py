"""How many of the prompts that people type get a look that a person would accept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.techniques.free_words.reader import Reading
from training.free_words.sources import Wish


@dataclass(frozen=True, slots=True)
class Result:
    """A prompt, the looks that it was given, and whether all of them are accepted (none, where none is)."""

    wish: Wish
    looks: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        return set(self.looks) <= set(self.wish.accepted) and bool(self.looks) == bool(self.wish.accepted)


def score(read: Callable[[str], Reading], wishes: Sequence[Wish]) -> list[Result]:
    return [Result(wish, read(wish.prompt).looks) for wish in wishes]


def share(results: Sequence[Result]) -> float:
    """0..1"""
    return sum(result.accepted for result in results) / len(results)
