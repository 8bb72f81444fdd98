"""Makes the table of words in a model's folder: phrases to words.json, vectors of words to model.safetensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.techniques.free_words.tokens import key
from training.free_words import sources
from training.free_words.encoder import SentenceEncoder

DIMENSIONS = 96
RARE = 1e-3  # a word of this frequency counts half
ANCHORED = ("english",)  # languages that the text encoder was trained on


@dataclass(frozen=True, slots=True)
class Space:
    """What the encoder's vectors become: centred, then the directions [D, 384] in which words differ most."""

    mean: Tensor
    directions: Tensor

    @classmethod
    def of(cls, vectors: Tensor, size: int = DIMENSIONS) -> Space:
        mean = vectors.mean(0)
        _, columns = torch.linalg.eigh((vectors - mean).T @ (vectors - mean))  # the largest last
        return cls(mean, columns.T[-size:])

    def __call__(self, vectors: Tensor) -> Tensor:
        """[n, 384] → int8 [n, D], each row as long as int8 allows."""
        inside = (vectors - self.mean) @ self.directions.T
        return (127 * inside / inside.abs().amax(-1, keepdim=True)).round().to(torch.int8)


def weights(count: int) -> Tensor:
    """[V], 0..1: the weight of each word in a mean, by its place in a list by frequency (Arora, Liang, Ma 2017; Zipf's law)."""
    frequency = 1.0 / (10.0 + torch.arange(count))
    return RARE / (RARE + frequency)


def anchors(table: dict[str, Any], prompts: Sequence[str]) -> list[tuple[int, str]]:
    """(place of the prompt, phrase) of all that English has for it, prompts in their order."""
    english = {phrase for phrases in sources.language("english").aliases.values() for phrase in map(key, phrases)}
    phrases: dict[str, list[str]] = {prompt: [prompt, *table["own"].get(prompt, ())] for prompt in prompts}
    for target, listed in table["aliases"].items():
        for prompt in set(target.split(", ")) & phrases.keys():
            phrases[prompt] += [phrase for phrase in listed if phrase in english]
    kept = ((place, dict.fromkeys(phrases[prompt])) for place, prompt in enumerate(prompts))
    return [(place, phrase) for place, texts in kept for phrase in texts]


def build(encoder: SentenceEncoder, folder: Path, prompts: Sequence[str], run: Path) -> int:
    """Write words/words.json and words/model.safetensors in a model's folder. prompts: all of the model but intensities. run: a
    folder that keeps the vectors of the vocabulary, a minute of work.

    Returns the size of both files in bytes.
    """
    table, vocabulary = sources.table(), encoder.words()
    anchored = anchors(table, prompts)
    vectors = _kept(run / "vectors.safetensors", lambda: encoder(vocabulary))
    space = Space.of(vectors)
    tensors = {
        "vectors": space(vectors),
        "weights": weights(len(vocabulary)).half(),
        "anchors": space(encoder([phrase for _, phrase in anchored])),
        "owners": torch.tensor([place for place, _ in anchored], dtype=torch.int16),
    }
    (folder / "words").mkdir(exist_ok=True)
    save_file(tensors, folder / "words" / "model.safetensors")
    text = json.dumps({**table, "vocabulary": vocabulary, "prompts": list(prompts)}, ensure_ascii=False, separators=(",", ":"))
    (folder / "words" / "words.json").write_text(text, encoding="utf-8")
    return sum(path.stat().st_size for path in (folder / "words").iterdir())


def _kept(path: Path, make: Callable[[], Tensor]) -> Tensor:
    """The tensor in a file, made and written at first."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"vectors": make()}, path)
    return load_file(path)["vectors"]
