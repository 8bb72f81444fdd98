"""Likeness of meaning without a network: one vector a word, from a sentence encoder's table, against those of known phrases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Guess:
    """The prompt of the model that words are most like; cosine -1..1, margin by which it leads before the next prompt."""

    prompt: str
    cosine: float
    margin: float


class Meanings:
    """vocabulary: V words. vectors: [V, D] int8, of any length. weights: [V], of each word in a mean. prompts: those of the
    model. anchors: [A, D] int8, the vectors of known phrases. owners: [A], the prompt that each stands for, rising.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        vectors: NDArray[Any],
        weights: NDArray[Any],
        prompts: Sequence[str],
        anchors: NDArray[Any],
        owners: NDArray[Any],
    ) -> None:
        self._places = {word: place for place, word in enumerate(vocabulary)}
        self._vectors, self._weights = vectors, weights.astype(np.float32)
        self._anchors = unit(anchors.astype(np.float32))
        present, self._starts = np.unique(owners, return_index=True)
        self._prompts = [prompts[int(place)] for place in present]

    def __contains__(self, word: object) -> bool:
        return word in self._places

    def guesses(self, spans: Sequence[Sequence[str]]) -> list[Guess | None]:
        """The best guess for the words of each span; None where none of them has a vector."""
        if not spans or len(self._prompts) < 2:
            return [None] * len(spans)
        vectors = np.stack([self._mean(words) for words in spans])
        # Not a product of matrices: its threads would wait for busy cores.
        cosines = np.einsum("nd,ad->na", unit(vectors), self._anchors)
        likeness = np.maximum.reduceat(cosines, self._starts, axis=1)
        made: list[Guess | None] = []
        for vector, row in zip(vectors, likeness, strict=True):
            second, best = np.argsort(row)[-2:]
            guess = Guess(self._prompts[int(best)], float(row[best]), float(row[best] - row[second]))
            made.append(guess if vector.any() else None)
        return made

    def _mean(self, words: Sequence[str]) -> Matrix:
        places = [self._places[word] for word in words if word in self._places]
        if not places:
            return np.zeros(self._vectors.shape[1], np.float32)
        mean: Matrix = self._weights[places] @ unit(self._vectors[places].astype(np.float32))
        return mean


def unit(vectors: Matrix) -> Matrix:
    """Each row of length 1; rows of zeros stay."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Matrix = (vectors / np.maximum(length, 1e-9)).astype(np.float32)
    return scaled
