"""Encodes prompts with one text encoder (SD 1.5, SD 2.1) or two (SDXL)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Encode = Callable[[str], tuple[Tensor, ...]]


def one_encoder(tokenizer: Any, encoder: nn.Module, length: int) -> Encode:
    """Prompt to the last hidden state, float32 [L, D]. Words beyond the context length are dropped.

    SD 2 uses the penultimate layer. Its checkpoints omit the last layer, so no special case is needed.
    """

    @torch.inference_mode()
    def encode(prompt: str) -> tuple[Tensor, ...]:
        return (encoder(_ids(tokenizer, prompt, length)).last_hidden_state[0].float(),)

    return encode


def two_encoders(pairs: Sequence[tuple[Any, nn.Module]], length: int) -> Encode:
    """Prompt to both penultimate hidden states, concatenated, float32 [L, D₁ + D₂], and the second encoder's pooled text [P]
    (SDXL, arXiv 2307.01952)."""

    @torch.inference_mode()
    def encode(prompt: str) -> tuple[Tensor, ...]:
        said = [encoder(_ids(tokenizer, prompt, length), output_hidden_states=True) for tokenizer, encoder in pairs]
        return torch.cat([output.hidden_states[-2][0] for output in said], dim=-1).float(), said[-1].text_embeds[0].float()

    return encode


def _ids(tokenizer: Any, prompt: str, length: int) -> Tensor:
    ids: Tensor = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    return ids
