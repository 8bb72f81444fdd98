"""Where a prompt beyond the text encoder's context is divided: as compel divides it, without the encoder and without torch.

compel divides tokens: behind the last full stop that fits, else behind a comma, semicolon or colon, else behind a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.checkpoints.loader.embeddings import Embeddings
from pipelines.techniques.prompt_syntax import Fragments, Weighted

MAX_CHUNKS = 4
STOPS = ((".</w>",), (".</w>", ",</w>", ";</w>", ":</w>"))


@dataclass(frozen=True, slots=True)
class Token:
    """Its name in the vocabulary, and where its characters begin in the plain text of the prompt."""

    name: str
    begin: int


@dataclass(frozen=True, slots=True)
class Length:
    """Of a prompt. chunks: 1 to MAX_CHUNKS. cut: the character of its plain text from which on nothing is read; None for none."""

    chunks: int
    cut: int | None = None


class Divider:
    """The chunks of prompts for a tokenizer of `text.packed`. context: tokens of a chunk with its begin and end. Any thread."""

    def __init__(self, content: bytes, context: int, embeddings: Embeddings, limit: int = MAX_CHUNKS) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(content.decode())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._room, self._embeddings, self._limit = context - 2, embeddings, limit

    def __call__(self, prompt: Weighted) -> Length:
        chunks, plain = 0, prompt.plain
        for tokens in self._parts(prompt, plain):
            while True:
                if chunks == self._limit:
                    return Length(chunks, tokens[0].begin if tokens else None)
                chunks += 1
                tokens = tokens[self._room if self._limit == 1 else split(tokens, self._room) :]
                if not tokens:
                    break
        return Length(max(1, chunks))

    def _parts(self, prompt: Weighted, plain: str) -> Iterator[list[Token]]:
        place = 0
        for part in prompt.parts:
            tokens = []
            for token, text in self._tokens(part):
                place = max(place, plain.find(text, place)) if text else place
                tokens.append(Token(token, place))
                place += len(text)
            yield tokens

    def _tokens(self, part: Fragments) -> Iterator[tuple[str, str]]:
        """(name of a token, its characters) of a part."""
        for fragment, _ in part:
            for piece in self._embeddings.divided(fragment):
                if isinstance(piece, str):
                    found = self._tokenizer.encode(piece, add_special_tokens=False)
                    yield from ((name, piece[a:b]) for name, (a, b) in zip(found.tokens, found.offsets, strict=True))
                else:
                    yield from ((name, "") for name in piece.tokens())


def split(tokens: list[Token], room: int) -> int:
    """How many of the tokens the next chunk takes."""
    if len(tokens) <= room:
        return room
    for stops in STOPS:
        found = next((index for index in reversed(range(room)) if tokens[index].name in stops), None)
        if found is not None:
            return found + 1
    return next((index + 1 for index in reversed(range(room)) if tokens[index].name.endswith("</w>")), room)
