"""Picture prompts (IP-Adapter, arXiv 2308.06721): cross-attention to a picture's tokens beside those of the text.

A row's picture tokens are appended to its text tokens in the same tensor, [B, L + T + 1, D]: L of the text, T of the picture,
and one whose first number is the scale. So the passes of the UNet need no further input, rows with and without a picture share
a call, and a scale of 0 adds exactly nothing.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.attention import attend


class PictureAttention(nn.Module):
    """The processor of one of diffusers' cross-attentions: softmax(QKᵀ)V + scale · softmax(QK'ᵀ)V', K' and V' of the picture.

    tokens: T. key, value: the adapter's weights [C, D], with C the attention's inner width. Inputs are hidden states [B, N, C]
    and the row's tokens [B, L + T + 1, D].
    """

    def __init__(self, tokens: int, key: Tensor, value: Tensor) -> None:
        super().__init__()
        self.tokens = tokens
        self.attention_kind = "sdpa"
        self.key = nn.Parameter(key, requires_grad=False)
        self.value = nn.Parameter(value, requires_grad=False)

    def forward(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        text, picture, scale = split(encoder_hidden_states, self.tokens)
        query = attn.to_q(hidden_states)
        said = attend(query, attn.to_k(text), attn.to_v(text), attn.heads, self.attention_kind)
        seen = attend(query, F.linear(picture, self.key), F.linear(picture, self.value), attn.heads, self.attention_kind)
        h = attn.to_out[0](said + scale * seen)
        return attn.to_out[1](h)


def split(rows: Tensor, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """(text [B, L, D], picture [B, T, D], scale [B, 1, 1]) of rows [B, L + T + 1, D]."""
    end = rows.shape[1] - tokens - 1
    return rows[:, :end], rows[:, end:-1], rows[:, -1:, :1]


def suffix(tokens: Tensor, scale: float) -> Tensor:
    """The suffix of a row's text tokens: the picture's tokens [T, D] and the scale; [T + 1, D]."""
    return torch.cat([tokens, torch.full((1, tokens.shape[1]), scale, device=tokens.device)])


def empty_suffix(tokens: int, width: int) -> Tensor | None:
    """The suffix of a text without a picture, [T + 1, D]; None for a model without an adapter (no tokens)."""
    return suffix(torch.zeros(tokens, width), 0.0) if tokens else None


class Projection(nn.Module):
    """A picture's embedding [E] to T tokens [T, D]: a linear layer, split into tokens, normalised."""

    def __init__(self, weight: Tensor, bias: Tensor, norm_weight: Tensor, norm_bias: Tensor) -> None:
        super().__init__()
        self.width = norm_weight.shape[0]
        self.weight, self.bias = weight.float(), bias.float()
        self.norm_weight, self.norm_bias = norm_weight.float(), norm_bias.float()

    def forward(self, embedding: Tensor) -> Tensor:
        tokens = F.linear(embedding, self.weight, self.bias).reshape(-1, self.width)
        return F.layer_norm(tokens, (self.width,), self.norm_weight, self.norm_bias)
