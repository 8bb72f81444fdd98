"""Prompts by compel itself, with the parts of diffusers' pipelines."""

from __future__ import annotations

from typing import Any

import torch
from compel import Compel, DiffusersTextualInversionManager, ReturnedEmbeddingsType


class OneEncoder:
    """A pipeline's tokenizer and text encoder as diffusers and compel look for them."""

    def __init__(self, pipe: Any, second: bool) -> None:
        suffix = "_2" if second else ""
        self.tokenizer, self.text_encoder = getattr(pipe, f"tokenizer{suffix}"), getattr(pipe, f"text_encoder{suffix}")
        self.maybe_convert_prompt = pipe.maybe_convert_prompt


def of_compel(pipe: Any, family: str, prompt: str, kind: ReturnedEmbeddingsType | None = None) -> torch.Tensor:
    """compel's hidden states of a prompt of any length, [n·L, D]."""
    kinds = ReturnedEmbeddingsType
    usual = kinds.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED if family == "sdxl" else kinds.LAST_HIDDEN_STATES_NORMALIZED
    states = []
    for second in (False, True)[: 2 if family == "sdxl" else 1]:
        one = OneEncoder(pipe, second)
        manager = DiffusersTextualInversionManager(one)
        made = Compel(
            one.tokenizer, one.text_encoder, manager, truncate_long_prompts=False, returned_embeddings_type=kind or usual
        )
        states.append(made(prompt)[0])
    return torch.cat(states, dim=-1)
