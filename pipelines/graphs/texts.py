"""Text encoders as graphs: where the backend keeps graphs on disk, a later start encodes prompts without transformers."""

from __future__ import annotations

from functools import cached_property, partial

import torch
from torch import Tensor

from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.checkpoints.loader.text import Encode, combined, unpacked
from pipelines.graphs.backends.base import Backend


class Texts:
    """The prompts of one pipeline. Its encoders are read at the first prompt, when the networks are no longer read."""

    def __init__(self, parts: ModelParts, backend: Backend) -> None:
        self._parts, self._backend = parts, backend

    def __call__(self, prompt: str) -> tuple[Tensor, ...]:
        """As `text.Encode`. Slow at the first prompt. Raises ModelError."""
        return self._encode(prompt)

    @cached_property
    def _encode(self) -> Encode:
        parts, backend = self._parts, self._backend
        example = (torch.zeros(1, parts.embedding_shape[0], dtype=torch.int64),)
        names = {part: f"text/{parts.text_fingerprint}/{part}" for part in parts.text_parts}
        tokenizers = [unpacked(backend.kept(f"{name}/tokenizer", partial(parts.tokenizer, part))) for part, name in names.items()]
        encoders = [backend.encoder(name, partial(parts.text_network, part), example) for part, name in names.items()]
        return combined(tokenizers, encoders)
