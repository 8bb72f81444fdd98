"""Text encoders as graphs: where the backend keeps graphs on disk, a later start encodes prompts without transformers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache, partial

import torch
from torch import Tensor

from pipelines.checkpoints.loader.chunks import MAX_CHUNKS, Divider, Length
from pipelines.checkpoints.loader.embeddings import Embedding
from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.checkpoints.loader.text import Encode, combined, unpacked
from pipelines.graphs.backends.base import Backend
from pipelines.techniques.conditioning import CACHED_PROMPTS
from pipelines.techniques.prompt_syntax import Weighted


class Texts:
    """The prompts of one pipeline. Its encoders are read at the first prompt, when the networks are no longer read."""

    def __init__(self, parts: ModelParts, backend: Backend) -> None:
        self._parts, self._backend = parts, backend

    def __call__(self, prompt: str, skip: int = 0) -> tuple[Tensor, ...]:
        """As `text.Encode`, with what the prompt's syntax gives; of a long prompt the embedding has several chunks. skip: layers
        of the encoders that are left out. Slow at the first prompt, and at the first one with syntax. Raises ModelError."""
        parsed = self._parts.parse_prompt(prompt)
        usable = [one for one in self._named(parsed) if one.problem is None]
        special = parsed.weighs or len(parsed.parts) > 1 or skip or usable
        if special or (not self._parts.has_words and self._divider(parsed).chunks > 1):
            return self._parts.encode_weighted(parsed.parts, skip)
        return self._encode(" ".join(self._parts.embeddings.in_tokens(parsed.plain).split()))

    def length(self, prompt: str) -> Length:
        """In chunks of the encoders' context, and where it is cut. Any thread."""
        return self._divider(self._parts.parse_prompt(prompt))

    def _named(self, parsed: Weighted) -> list[Embedding]:
        return self._parts.embeddings.named(" ".join(text for text, _ in parsed.fragments))

    @cached_property
    def _divider(self) -> Callable[[Weighted], Length]:
        """Remembers the latest prompts: a change of any setting looks at those of all sessions, in the server's event loop."""
        parts = self._parts
        limit = 1 if parts.has_words else MAX_CHUNKS
        divider = Divider(self._tokenizers[parts.text_parts[0]], parts.embedding_shape[0], parts.embeddings, limit)
        return lru_cache(CACHED_PROMPTS)(divider)

    @cached_property
    def _names(self) -> dict[str, str]:
        return {part: f"text/{self._parts.text_fingerprint}/{part}" for part in self._parts.text_parts}

    @cached_property
    def _tokenizers(self) -> dict[str, bytes]:
        """As `text.packed`, by text encoder."""
        kept = self._backend.kept
        return {part: kept(f"{name}/tokenizer", partial(self._parts.tokenizer, part)) for part, name in self._names.items()}

    @cached_property
    def _encode(self) -> Encode:
        parts, backend = self._parts, self._backend
        adapted = parts.adapted
        gains = (adapted.gains(1),) if adapted.branches else ()
        example = (torch.zeros(1, parts.embedding_shape[0], dtype=torch.int64), *gains)
        encoders = [backend.encoder(name, partial(parts.text_network, part), example) for part, name in self._names.items()]
        tokenizers = [unpacked(content) for content in self._tokenizers.values()]
        return combined(tokenizers, [adapted.with_gains(encoder) for encoder in encoders])
