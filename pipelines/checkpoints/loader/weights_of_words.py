"""Prompts whose words have weights, through compel: https://github.com/damian0815/compel.

compel moves the states of weighted words away from those of the empty prompt, and mixes in a prompt without the words that weigh
less than 1. That needs attention masks, so it computes with torch, not with the graphs of the encoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Fragments = Sequence[tuple[str, float]]


class WeightedTexts:
    """encoders: (tokenizer, encoder) of transformers for each text encoder, in order. pools: SDXL, penultimate states and the
    last encoder's pooled text."""

    def __init__(self, encoders: Sequence[tuple[Any, Any]], pools: bool) -> None:
        self._encoders, self._pools = encoders, pools
        self.forget()

    def forget(self) -> None:
        """The encoders' weights have changed: compel keeps the states of the empty prompt."""
        from compel.embeddings_provider import EmbeddingsProvider, ReturnedEmbeddingsType

        kinds, encoders = ReturnedEmbeddingsType, self._encoders
        kind = kinds.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED if self._pools else kinds.LAST_HIDDEN_STATES_NORMALIZED
        self._providers = [EmbeddingsProvider(*pair, returned_embeddings_type=kind) for pair in encoders]
        self._pooled = EmbeddingsProvider(*encoders[-1], returned_embeddings_type=kinds.POOLED) if self._pools else None

    @torch.inference_mode()
    def __call__(self, fragments: Fragments) -> tuple[Tensor, ...]:
        """As `text.Encode`. The pooled text has no weights: it is one vector for all words."""
        first = self._providers[0]
        kept = [(text, weight) for text, weight in fragments if first.get_token_ids([text], False)[0]]
        texts, weights = [text for text, _ in kept] or [""], [weight for _, weight in kept] or [1.0]
        states = [provider.get_embeddings_for_weighted_prompt_fragments([texts], [weights])[0] for provider in self._providers]
        hidden = torch.cat(states, dim=-1).float()
        if self._pooled is None:
            return (hidden,)
        return hidden, self._pooled.get_pooled_embeddings([" ".join(texts)])[0].float()
