"""Encodes prompts with one text encoder (SD 1.5, SD 2.1) or two (SDXL).

A tokenizer is packed as the JSON of the `tokenizers` library, so that a later start needs no transformers for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Encode = Callable[[str], tuple[Tensor, ...]]
"""Prompt to what the UNet takes of it: (embedding [L, D],), or (embedding, pooled [P]) for SDXL; float32."""

Tokenize = Callable[[str], Tensor]
"""Prompt to token numbers, int64 [1, L]: words past the context length are cut, short prompts are padded."""


class LastHidden(nn.Module):
    """Token numbers [1, L] to the last hidden state [1, L, D].

    SD 2 uses the penultimate layer. Its checkpoints omit the last layer, so no special case is needed.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor) -> tuple[Tensor, ...]:
        return (self.encoder(ids).last_hidden_state,)


class Penultimate(nn.Module):
    """Token numbers [1, L] to the penultimate hidden state [1, L, D] and, where the encoder pools, the pooled text [1, P]
    (SDXL, arXiv 2307.01952)."""

    def __init__(self, encoder: nn.Module, pools: bool) -> None:
        super().__init__()
        self.encoder, self.pools = encoder, pools

    def forward(self, ids: Tensor) -> tuple[Tensor, ...]:
        output = self.encoder(ids, output_hidden_states=True)
        hidden = output.hidden_states[-2]
        return (hidden, output.text_embeds) if self.pools else (hidden,)


def packed(tokenizer: Any, length: int) -> bytes:
    """A tokenizer of transformers that cuts and pads to `length` tokens, as JSON of the `tokenizers` library."""
    tokenizer("", padding="max_length", max_length=length, truncation=True)  # sets both in the library's own tokenizer
    return str(tokenizer.backend_tokenizer.to_str()).encode()


def unpacked(content: bytes) -> Tokenize:
    """The tokenizer of `packed`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(content.decode())
    return lambda prompt: torch.tensor([tokenizer.encode(prompt).ids])


def combined(tokenizers: Sequence[Tokenize], encoders: Sequence[Callable[[Tensor], tuple[Tensor, ...]]]) -> Encode:
    """Hidden states of all encoders side by side, and the last one's pooled text where it has one."""

    @torch.inference_mode()
    def encode(prompt: str) -> tuple[Tensor, ...]:
        outputs = [encoder(tokenize(prompt)) for tokenize, encoder in zip(tokenizers, encoders, strict=True)]
        hidden = torch.cat([output[0][0] for output in outputs], dim=-1).float()
        return hidden, *(pooled[0].float() for pooled in outputs[-1][1:])

    return encode
