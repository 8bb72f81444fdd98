"""Makes diffusers' attention layers use kernels/attention.py. The UNet's attention is computed nowhere else."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kernels.attention import attend


class PlainAttention:
    """A processor of diffusers' `Attention` for the layers of a transformer block: no mask, no normalisation of its own."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        h = attend(attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context), attn.heads, self.kind)
        return attn.to_out[1](attn.to_out[0](h))


STOCK = ("AttnProcessor", "AttnProcessor2_0", "PlainAttention")
"""Processors that PlainAttention may replace."""


def plain(layer: Any) -> bool:
    """Whether PlainAttention computes the same as this layer."""
    if type(layer).__name__ != "Attention" or type(getattr(layer, "processor", None)).__name__ not in STOCK:
        return False
    if any(getattr(layer, name, None) for name in ("group_norm", "spatial_norm", "norm_q", "norm_k", "norm_cross")):
        return False
    return not layer.residual_connection and bool(layer.rescale_output_factor == 1.0)


def choose(module: nn.Module, kind: str) -> None:
    """Use `kind` of kernels.attention.KINDS for every plain attention layer of the module, in place. Other attention layers,
    for example an autoencoder's, stay unchanged."""
    layers: list[Any] = list(module.modules())
    for layer in layers:
        if plain(layer):
            layer.set_processor(PlainAttention(kind))
        elif isinstance(getattr(layer, "processor", None), PlainAttention):
            layer.processor.kind = kind
        elif hasattr(layer, "attention_kind"):
            layer.attention_kind = kind
