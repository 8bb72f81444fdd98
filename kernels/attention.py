"""Attention, behind one function: torch's own, which takes FlashAttention, cuDNN or its own kernel as the device has it, or
xformers'."""

from __future__ import annotations

from importlib.util import find_spec

import torch.nn.functional as F
from torch import Tensor

KINDS = ("sdpa", "xformers")


def available(kind: str) -> bool:
    """Whether attention of a kind of KINDS can be had here."""
    return kind == "sdpa" or (kind == "xformers" and find_spec("xformers") is not None)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, kind: str = "sdpa") -> Tensor:
    """softmax(QKᵀ/√d)·V in so many heads: query [B, N, C], key and value [B, L, C] to [B, N, C].

    kind: of KINDS. Raises ValueError for others, ImportError for xformers where it is not installed.
    """
    parts = [part.unflatten(-1, (heads, -1)) for part in (query, key, value)]  # [B, N, heads, C / heads]
    if kind == "xformers":
        from xformers.ops import memory_efficient_attention

        return memory_efficient_attention(*parts).flatten(2)
    if kind != "sdpa":
        raise ValueError(f"attention {kind!r} is not one of {', '.join(KINDS)}")
    attended = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in parts))
    return attended.transpose(1, 2).flatten(2)
