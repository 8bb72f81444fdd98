"""Prompts with weights of words, parts, more than one context, embeddings or layers left out: through compel.

https://github.com/damian0815/compel. It moves the states of weighted words away from those of the empty prompt, mixes in a prompt
without the words that weigh less than 1, and encodes a long prompt in chunks. That needs attention masks, so it computes with
torch, not with the graphs of the encoders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pipelines.checkpoints.loader import networks
from pipelines.checkpoints.loader.chunks import MAX_CHUNKS
from pipelines.checkpoints.loader.embeddings import Embedding, Embeddings
from pipelines.techniques.prompt_syntax import Fragments
from pipelines.values.types import ModelError


class WeightedTexts:
    """encoders: part → (tokenizer, encoder) of transformers, in order; the tokenizers get the embeddings' tokens. pools: SDXL,
    penultimate states and the last encoder's pooled text. Raises ModelError for a broken embedding."""

    def __init__(self, encoders: dict[str, tuple[Any, Any]], pools: bool, embeddings: Embeddings) -> None:
        self._encoders, self._pools, self._embeddings = encoders, pools, embeddings
        _install([one for one in embeddings.known if one.problem is None], encoders)
        self._providers: dict[int | None, list[Any]] = {}

    def forget(self) -> None:
        """The encoders' weights have changed: compel keeps the states of the empty prompt."""
        self._providers.clear()

    @torch.inference_mode()
    def __call__(self, parts: Sequence[Fragments], skip: int = 0) -> tuple[Tensor, ...]:
        """As `text.Encode`, with an embedding [n·L, D] of n chunks, MAX_CHUNKS at most. The pooled text has no weights: it is one
        vector for the words that fit one context. skip: layers that are left out at the end."""
        hidden = torch.cat([self._hidden(part, skip) for part in parts or ((),)])
        hidden = hidden[: MAX_CHUNKS * self._provider(skip)[0].max_token_count]
        if not self._pools:
            return (hidden,)
        words = " ".join(text for part in parts for text, _ in self._named(part)) or ""
        return hidden, self._provider(None)[-1].get_pooled_embeddings([words])[0].float()

    def _hidden(self, part: Fragments, skip: int) -> Tensor:
        providers = self._provider(skip)
        kept = [(text, weight) for text, weight in self._named(part) if providers[0].get_token_ids([text], False)[0]]
        texts, weights = [text for text, _ in kept] or [""], [weight for _, weight in kept] or [1.0]
        states = [provider.get_embeddings_for_weighted_prompt_fragments([texts], [weights])[0] for provider in providers]
        return torch.cat(states, dim=-1).float()

    def _named(self, part: Fragments) -> list[tuple[str, float]]:
        return [(self._embeddings.in_tokens(text), weight) for text, weight in part]

    def _provider(self, skip: int | None) -> list[Any]:
        """compel's providers with so many layers left out; None: of the pooled text."""
        if skip not in self._providers:
            make = _provider_class(skip or 0, self._pools)
            from compel.embeddings_provider import ReturnedEmbeddingsType as Kinds
            from compel.embeddings_provider import SplitLongTextMode

            usual = Kinds.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED if self._pools else Kinds.LAST_HIDDEN_STATES_NORMALIZED
            kind = Kinds.POOLED if skip is None else usual
            self._providers[skip] = [
                make(
                    tokenizer,
                    encoder,
                    truncate=False,
                    returned_embeddings_type=kind,
                    split_long_text_mode=SplitLongTextMode.SENTENCES,
                )
                for tokenizer, encoder in self._encoders.values()
            ]
        return self._providers[skip]


def _provider_class(skip: int, pools: bool) -> Callable[..., Any]:
    """compel's provider, which knows no other layers than the last and the last but one, with the states of any layer."""
    from compel.embeddings_provider import EmbeddingsProvider

    if not skip:
        return EmbeddingsProvider

    class Skipping(EmbeddingsProvider):
        def _encode_token_ids_to_embeddings(self, token_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            encoder: Any = self.text_encoder
            made = encoder(token_ids, attention_mask, output_hidden_states=True, return_dict=True)
            states: Tensor = made.hidden_states[-(skip + 2 if pools else skip + 1)]
            if pools:
                return states
            normed: Tensor = getattr(encoder, "text_model", encoder).final_layer_norm(states)
            return normed

    return Skipping


def _install(known: Sequence[Embedding], encoders: dict[str, tuple[Any, Any]]) -> None:
    """Gives tokenizers the tokens of the embeddings, and encoders their vectors: all together, since each resizing copies every
    vector of an encoder. Of embeddings with the same name the first counts, as in `Embeddings`."""
    from transformers import AddedToken

    read = [(one, networks.read(one.weights)) for one in known if one.weights is not None]
    for part, (tokenizer, encoder) in encoders.items() if read else ():
        vectors: dict[str, Tensor] = {}
        for one, tensors in reversed(read):
            rows = tensors[one.tensors[part]].float().reshape(one.count, -1)
            if not rows.isfinite().all():
                raise ModelError(f"{one.words[0]}: has numbers that are not finite")
            vectors |= zip(one.tokens(), rows, strict=True)
        tokenizer.add_tokens([AddedToken(token, normalized=False) for token in vectors])
        places = tokenizer.convert_tokens_to_ids(list(vectors))
        if max(places) >= encoder.get_input_embeddings().num_embeddings:
            encoder.resize_token_embeddings(max(places) + 1, mean_resizing=False)
        encoder.get_input_embeddings().weight.data[places] = torch.stack(list(vectors.values()))
