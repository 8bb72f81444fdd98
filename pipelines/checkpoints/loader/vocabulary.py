"""CLIP's tokenizer, from the files of a model's folder, or from its merges alone for single files.

The merges determine the vocabulary. Token numbers: 256 bytes, the same at the end of a word, one for each merge, then the two
special tokens. The library gets the content of the files, never the folder, where it would also read chat templates.
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.checkpoints.loader.configs import MERGES
from pipelines.values.reader import ModelFolder
from pipelines.values.types import ModelError

SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
FLAGS = ("lstrip", "rstrip", "single_word", "normalized")
START, END = "<|startoftext|>", "<|endoftext|>"


@cache
def merges() -> tuple[tuple[str, str], ...]:
    """The merges, in the order in which they apply."""
    lines = gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()
    return tuple((first, second) for first, second in (line.split(" ") for line in lines))


def tokens(pairs: tuple[tuple[str, str], ...]) -> dict[str, int]:
    """Every token and its number."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    names = [*letters, *(f"{letter}</w>" for letter in letters), *(first + second for first, second in pairs), START, END]
    return {name: number for number, name in enumerate(names)}


def tokenizer(layout: Path, length: int, pad: str) -> Any:
    """The tokenizer of a family: `length` tokens of context, padded with `pad`. A folder `tokenizer` has priority."""
    from transformers import CLIPTokenizer

    if (layout / "tokenizer").is_dir():
        return read_tokenizer(ModelFolder(layout), "tokenizer")
    return CLIPTokenizer(vocab=tokens(merges()), merges=list(merges()), pad_token=pad, model_max_length=length)


def read_tokenizer(folder: ModelFolder, part: str) -> Any:
    """The CLIPTokenizer of the folder `part`: tokenizer.json, or vocab.json and merges.txt. Raises ModelError."""
    from transformers import CLIPTokenizer

    label = f"{folder.name}/{part}"

    def read(name: str) -> dict[str, Any]:
        return folder.json(f"{part}/{name}") if folder.has(f"{part}/{name}") else {}

    config, whole = read("tokenizer_config.json"), read("tokenizer.json")
    try:
        added, special = _added(config, read("special_tokens_map.json"), read("added_tokens.json"), whole)
        if whole:
            words, pairs = whole["model"]["vocab"], [_pair(merge) for merge in whole["model"]["merges"]]
        else:
            words, pairs = folder.json(f"{part}/vocab.json"), _merges(folder.text(f"{part}/merges.txt"))
        limit = {"model_max_length": int(config["model_max_length"])} if "model_max_length" in config else {}
        made = CLIPTokenizer(vocab=words, merges=pairs, added_tokens_decoder=added, **special, **limit)
        made("a")  # a missing part of a vocabulary raises at the first text
        return made
    except ModelError:
        raise
    except Exception as error:  # the tokenizers library raises Exception itself
        raise ModelError(f"{label}: contains no CLIP tokenizer: {error or type(error).__name__}") from error


def _added(
    config: dict[str, Any], special_map: dict[str, Any], added: dict[str, Any], whole: dict[str, Any]
) -> tuple[dict[int, Any], dict[str, Any]]:
    """(added tokens by number, special tokens by role), in the library's order of precedence."""
    decoder = config.get("added_tokens_decoder")
    if decoder is not None:
        numbered = {int(number): _token(token) for number, token in decoder.items()}
    else:
        config = {**config, **special_map}
        named = {str(_token(config[role])) for role in SPECIAL if config.get(role)}
        numbered = {
            int(number): _token({"content": text, "special": text in named, "normalized": text not in named})
            for text, number in added.items()
        }
        numbered |= {token["id"]: _token(token) for token in whole.get("added_tokens", ())}
    by_text = {str(token): token for token in numbered.values()}
    roles = {role: _token(config[role]) for role in SPECIAL if config.get(role)}
    return numbered, {role: by_text.get(str(token), token) for role, token in roles.items()}


def _token(value: Any) -> Any:
    """A token for the library, from the text or object in a file."""
    from transformers import AddedToken

    if isinstance(value, str):
        return value
    flags = {flag: bool(value[flag]) for flag in FLAGS if flag in value}
    return AddedToken(str(value["content"]), special=bool(value.get("special", True)), **flags)


def _merges(text: str) -> list[tuple[str, str]]:
    lines = (line.rstrip("\r") for line in text.split("\n"))
    return [_pair(line) for line in lines if line and not line.startswith("#version")]


def _pair(merge: Any) -> tuple[str, str]:
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return str(first), str(second)
