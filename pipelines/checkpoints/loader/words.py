"""The table of words in a model's folder, made by `python -m training words`: words/words.json and words/model.safetensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.checkpoints.loader import networks
from pipelines.checkpoints.loader.files import Folder
from pipelines.checkpoints.loader.model_files import WORDS as FILE
from pipelines.techniques.free_words.lexicon import Lexicon, Phrase
from pipelines.techniques.free_words.meanings import Meanings
from pipelines.techniques.free_words.reader import Reader
from pipelines.values.types import ModelError
from pipelines.values.vocabulary import Vocabulary

PHRASES = ("own", "aliases")
LISTS = ("general", "glue", "subjects", "things", "fillers", "parts", "vocabulary", "prompts")
TENSORS = ("vectors", "weights", "anchors", "owners")


def read_words(folder: Folder, vocabulary: Vocabulary) -> Reader | None:
    """The reader of free words, None for a folder without a table. Raises ModelError, which names the field."""
    if not folder.has(FILE):
        return None
    label, listed = f"{folder.name}/{FILE}", folder.json(FILE)
    if set(listed) != {*PHRASES, *LISTS}:
        raise ModelError(f"{label}: must have the keys {', '.join((*PHRASES, *LISTS))} and nothing else")
    for field in LISTS:
        if not _texts(listed[field]):
            raise ModelError(f"{label}: {field} must be a list of texts")
    kinds = kinds_of(vocabulary)
    phrases = dict(_phrases(listed, kinds, label))
    lexicon = Lexicon(phrases, listed["vocabulary"], listed["parts"])
    painted = frozenset(look.prompt for look in vocabulary.painted)
    if strange := [prompt for prompt in listed["prompts"] if prompt not in kinds]:
        raise ModelError(f"{label}: prompts: {strange[0]!r} is no look, modifier or scene of this model")
    return Reader(lexicon, kinds, _meanings(folder, listed["vocabulary"], listed["prompts"]), painted)


def kinds_of(vocabulary: Vocabulary) -> dict[str, str]:
    """Every prompt of the model with its kind, looks first; a modifier's kind is its group, a named style's is "style"."""
    looks = {word.prompt: "look" for word in vocabulary.looks}
    looks |= {look.prompt: "look" if look.made is None else "style" for look in vocabulary.painted}
    return {word.prompt: "scene" for word in vocabulary.scenes} | {w.prompt: w.group for w in vocabulary.modifiers} | looks


def _phrases(listed: dict[str, Any], kinds: dict[str, str], label: str) -> Iterator[tuple[str, Phrase]]:
    """Pairs of phrase and meaning; of two pairs with one phrase the later counts."""
    general = frozenset(listed["general"])
    yield from ((word, Phrase()) for word in listed["fillers"])
    yield from ((word, Phrase(subject=True)) for word in listed["things"])
    yield from ((word, Phrase(own=True, subject=True)) for word in listed["subjects"])
    yield from ((word, Phrase(own=True)) for word in listed["glue"])
    for field in reversed(PHRASES):
        if not isinstance(listed[field], dict) or not all(map(_texts, listed[field].values())):
            raise ModelError(f"{label}: {field} must be an object of lists of texts")
        for target, texts in listed[field].items():
            means = tuple(target.split(", "))
            if strange := [prompt for prompt in means if prompt not in kinds]:
                raise ModelError(f"{label}: {field}: {strange[0]!r} is no look, modifier or scene of this model")
            yield from ((text, Phrase(means, field == "own", text in general)) for text in texts)
    yield from ((prompt, Phrase((prompt,), True, prompt in general)) for prompt in kinds)


def _meanings(folder: Folder, words: list[str], prompts: list[str]) -> Meanings:
    weights = folder.weights("words")
    label = f"{folder.name}/words/model.safetensors"
    shapes = {name: info.shape for name, info in weights.tensors.items()}
    if set(shapes) != set(TENSORS):
        raise ModelError(f"{label}: must have the tensors {', '.join(TENSORS)}")
    width, count = shapes["vectors"][-1:], shapes["owners"][:1]
    fitting = {"vectors": (len(words), *width), "weights": (len(words),), "anchors": (*count, *width), "owners": count}
    if shapes != fitting or not width:
        raise ModelError(f"{label}: its tensors do not fit each other and the {len(words)} words of {FILE}")
    read = {name: tensor.numpy() for name, tensor in networks.read(weights).items()}
    owners = read["owners"]
    if not len(owners) or owners.min() < 0 or owners.max() >= len(prompts) or (owners[1:] < owners[:-1]).any():
        raise ModelError(f"{label}: owners must rise, from 0 to {len(prompts) - 1}")
    return Meanings(words, read["vectors"], read["weights"], prompts, read["anchors"], owners)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) and text for text in value)
