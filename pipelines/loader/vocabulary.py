"""CLIP's tokenizer out of its merges alone: the vocabulary follows from them.

Token numbers: 256 bytes, the same at the end of a word, one for each merge, then the two special tokens.
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.models import ASSETS

MERGES = ASSETS / "layouts" / "merges.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"


@cache
def merges() -> tuple[tuple[str, str], ...]:
    """In the order in which they apply."""
    lines = gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()
    return tuple((first, second) for first, second in (line.split(" ") for line in lines))


def tokens(pairs: tuple[tuple[str, str], ...]) -> dict[str, int]:
    """Every token and its number."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    names = [*letters, *(f"{letter}</w>" for letter in letters), *(first + second for first, second in pairs), START, END]
    return {name: number for number, name in enumerate(names)}


def tokenizer(layout: Path, length: int, pad: str) -> Any:
    """The tokenizer of a family: `length` tokens of context, padded with `pad`. A folder `tokenizer` in the layout goes first."""
    from transformers import CLIPTokenizer

    if (layout / "tokenizer").is_dir():
        return CLIPTokenizer.from_pretrained(layout / "tokenizer", local_files_only=True)
    return CLIPTokenizer(vocab=tokens(merges()), merges=list(merges()), pad_token=pad, model_max_length=length)
