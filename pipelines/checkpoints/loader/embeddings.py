"""Textual inversion (arXiv 2208.01618): files of a few vectors, which a prompt names as if they were words.

Three layouts, as .safetensors: AUTOMATIC1111's `emb_params` or `string_to_param` (one text encoder), `clip_l` and `clip_g`
(SDXL), and diffusers' one tensor under the name of its token. The file's name is the word; so is diffusers' token. Imports no
torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipelines.checkpoints.loader.files import PICKLED, Weights, read_weights
from pipelines.values.types import ModelError

FOLDER = "embeddings"
"""The folder beside the weights where embeddings are looked for."""

SDXL = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
ONE = ("emb_params", "string_to_param", "string_to_param.*")
MAX_VECTORS = 75
MAX_FILES = 1000
ENDINGS = (".safetensors", *PICKLED)


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """words: names by which prompts name it. tensors: part → name of the tensor [count, D] in `weights`. problem: why it cannot
    be used with this model, None if it can."""

    words: tuple[str, ...]
    count: int = 0
    tensors: Mapping[str, str] = field(default_factory=dict)
    weights: Weights | None = None
    problem: str | None = None

    def tokens(self) -> tuple[str, ...]:
        """A token of the tokenizer for each vector."""
        return tuple(f"<|{self.words[0].lower()}|{index}|>" for index in range(self.count))


Piece = str | Embedding


@dataclass(frozen=True)
class Embeddings:
    """The embeddings that prompts of a model may name, each by a whole word in capitals or not."""

    known: tuple[Embedding, ...] = ()

    def divided(self, text: str) -> Iterator[Piece]:
        """A text as texts and the embeddings between them."""
        place = 0
        for match in self._pattern.finditer(text) if self.known else ():
            if match.start() > place:
                yield text[place : match.start()]
            yield self._by_word[match[1].lower()]
            place = match.end()
        if place < len(text) or not text:
            yield text[place:]

    def named(self, text: str) -> list[Embedding]:
        """The embeddings that a text names, each once."""
        return list(dict.fromkeys(piece for piece in self.divided(text) if isinstance(piece, Embedding)))

    def in_tokens(self, text: str) -> str:
        """The text with the tokens of the embeddings that it names, without those that cannot be used."""
        pieces = (piece if isinstance(piece, str) else f" {' '.join(piece.tokens())} " for piece in self.divided(text))
        return "".join(pieces)

    @cached_property
    def _by_word(self) -> dict[str, Embedding]:
        return {word.lower(): one for one in reversed(self.known) for word in one.words}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        words = "|".join(map(re.escape, sorted(self._by_word, key=len, reverse=True)))
        return re.compile(rf"(?<![\w-])(?:embedding:)?({words})(?:\.safetensors|\.pt)?(?![\w-])", re.IGNORECASE)


def read_folder(folder: Path, widths: Mapping[str, int]) -> tuple[Embedding, ...]:
    """The embeddings of a folder; one that is no folder has none. widths: of the text encoders' vectors, by part."""
    if not folder.is_dir():
        return ()
    files = sorted(path for path in folder.rglob("*") if path.suffix in ENDINGS)
    return tuple(map(_tried, files[:MAX_FILES], [widths] * MAX_FILES))


def _tried(path: Path, widths: Mapping[str, int]) -> Embedding:
    """A file of a folder, which may hold files for other models: one that cannot be used is an error only for who names it."""
    try:
        return read_file(path, widths)
    except ModelError as error:
        return Embedding((path.stem,), problem=str(error))


def read_file(path: Path, widths: Mapping[str, int]) -> Embedding:
    """Raises ModelError for a file that is no embedding, or is for another model."""
    if path.suffix in PICKLED:
        raise ModelError(f"{path.name}: is pickled, and reading a pickle may run code; save it as .safetensors")
    weights = read_weights([path], path.name)
    shapes = {name: info.shape for name, info in weights.tensors.items()}
    words: tuple[str, ...] = (path.stem,)
    tensors = {SDXL[name]: name for name in shapes if name in SDXL}
    if not tensors:
        name = next((name for name in ONE if name in shapes), None)
        if name is None and len(shapes) == 1:
            (name,) = shapes
            words = tuple(dict.fromkeys((path.stem, name)))
        if name is None:
            raise ModelError(f"{path.name}: is no textual inversion; it has {len(shapes)} tensors, the first is {min(shapes)!r}")
        tensors = {"text_encoder": name}
    found = {part: shapes[name][-1] if shapes[name] else 0 for part, name in tensors.items()}
    if found != dict(widths):
        raise ModelError(f"{path.name}: is an embedding for {_model(found)}; this model is {_model(widths)}")
    counts = {1 if len(shapes[name]) == 1 else shapes[name][0] for name in tensors.values()}
    if len(counts) > 1 or any(len(shapes[name]) > 2 for name in tensors.values()) or not 0 < max(counts) <= MAX_VECTORS:
        raise ModelError(f"{path.name}: has vectors of the shapes {sorted(shapes.values())}; 1 to {MAX_VECTORS} rows are allowed")
    return Embedding(words, counts.pop(), tensors, weights)


def _model(widths: Mapping[str, int]) -> str:
    """The kind of model whose text encoders have these widths."""
    kinds = {(768,): "SD 1.5", (1024,): "SD 2", (768, 1280): "SDXL", (1280,): "the SDXL refiner"}
    sizes = tuple(widths[part] for part in sorted(widths))
    kind = kinds.get(sizes)
    shown = " and ".join(map(str, sizes))
    return f"{kind} ({shown} numbers a vector)" if kind else f"one with {shown} numbers a vector"


def all_of(folders: Sequence[Path], files: Sequence[Path], widths: Mapping[str, int]) -> Embeddings:
    """files: named by the user, so that one that cannot be used raises ModelError."""
    named = tuple(read_file(path, widths) for path in files)
    return Embeddings((*named, *(one for folder in folders for one in read_folder(folder, widths))))
