"""Text encoders as graphs: where the backend keeps graphs on disk, a later start encodes prompts without transformers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial

import torch
from torch import Tensor

from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.checkpoints.loader.text import Encode, combined, cut_at, unpacked
from pipelines.graphs.backends.base import Backend


class Texts:
    """The prompts of one pipeline. Its encoders are read at the first prompt, when the networks are no longer read."""

    def __init__(self, parts: ModelParts, backend: Backend) -> None:
        self._parts, self._backend = parts, backend

    def __call__(self, prompt: str) -> tuple[Tensor, ...]:
        """As `text.Encode`, with the weights of words that the prompt's syntax gives. Slow at the first prompt, and at the first
        one with weights. Raises ModelError."""
        parsed = self._parts.parse_prompt(prompt)
        return self._parts.encode_weighted(parsed.fragments) if parsed.weighs else self._encode(parsed.plain)

    def cut(self, prompt: str) -> int | None:
        """The character of a prompt where the context of the first encoder ends, None for a prompt that fits. Any thread."""
        return self._cut(prompt)

    @cached_property
    def _cut(self) -> Callable[[str], int | None]:
        return cut_at(self._tokenizers[self._parts.text_parts[0]], self._parts.embedding_shape[0])

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
