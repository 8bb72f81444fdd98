"""A ControlNet (arXiv 2302.05543) as a static graph of its own. It returns the residuals for the skips and the middle of a
UNet.

A full pass uses all residuals. A shallow pass, which re-enters the UNet at a branch, needs only those of the skips up to that
branch, and these need only as many of the ControlNet's layers. Independent of maps, sessions and backends.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pipelines.networks.modulation import TimeEmbedding


class ControlPass(nn.Module):
    """The residuals of a ControlNet (diffusers' ControlNetModel), multiplied by its scale.

    forward(x [B,C,h,w], t [B], emb [B,L,D], hint [B,3,8h,8w] in 0..1, scale [B], *added) → residuals of skips 0, 1, ...,
    outermost first, and finally that of the middle; with `count` only those of the first `count` skips. added: pooled [B,P] and
    time_ids [B,6] if the ControlNet has text_time conditions (SDXL).
    """

    def __init__(self, control: Any, count: int | None = None) -> None:
        super().__init__()
        self.embed = TimeEmbedding(control)
        self.conv_in = control.conv_in
        self.look = control.controlnet_cond_embedding
        layers = [layer for block in control.down_blocks for layer in _layers(block)]
        self.zeros = nn.ModuleList(list(control.controlnet_down_blocks)[:count])
        self.down = nn.ModuleList(layers[: len(self.zeros) - 1])
        self.mid: Any = control.mid_block if count is None else None
        self.mid_zero = control.controlnet_mid_block if count is None else None

    def forward(self, x: Tensor, t: Tensor, emb: Tensor, hint: Tensor, scale: Tensor, *added: Tensor) -> tuple[Tensor, ...]:
        temb = self.embed(t, emb, *added)
        h = self.conv_in(x) + self.look(hint)
        skips = [h]
        for layer in self.down:
            h = layer(h, temb, emb)
            skips.append(h)
        residuals = [zero(skip) for zero, skip in zip(self.zeros, skips, strict=True)]
        if self.mid is not None and self.mid_zero is not None:
            attends = getattr(self.mid, "has_cross_attention", False)
            residuals.append(self.mid_zero(self.mid(h, temb, encoder_hidden_states=emb) if attends else self.mid(h, temb)))
        scale = scale.to(x.dtype)[:, None, None, None]
        return tuple(scale * value for value in residuals)


class _Layer(nn.Module):
    """A resnet and its cross-attention, or the downsampler between two blocks."""

    def __init__(self, resnet: Any, attention: Any, downsampler: Any = None) -> None:
        super().__init__()
        self.resnet, self.attention, self.downsampler = resnet, attention, downsampler

    def forward(self, h: Tensor, temb: Tensor, emb: Tensor) -> Tensor:
        if self.downsampler is not None:
            return self.downsampler(h)
        h = self.resnet(h, temb)
        return h if self.attention is None else self.attention(h, encoder_hidden_states=emb, return_dict=False)[0]


def _layers(block: Any) -> list[_Layer]:
    attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
    layers = [_Layer(resnet, attention) for resnet, attention in zip(block.resnets, attentions, strict=True)]
    return [*layers, *(_Layer(None, None, downsampler) for downsampler in block.downsamplers or ())]
