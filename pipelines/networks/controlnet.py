"""A ControlNet (arXiv 2302.05543) as a static graph of its own. It returns the residuals for the skips and the middle of a
UNet.

A full pass uses all residuals. A shallow pass, which re-enters the UNet at a branch, needs only those of the skips up to that
branch, and these need only as many of the ControlNet's layers. Independent of maps, sessions and backends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.networks.modulation import TimeEmbedding
from pipelines.values.settings import MAPS

UNION_KINDS = {"canny": 3, "soft-edge": 2, "depth-like": 1}
"""MAPS → the number of the kind in the published ControlNet Unions: 0 pose, 1 depth, 2 soft edges, 3 lines, 4 normals, 5
segments; in the later one 6 tile and 7 repaint."""


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
        return self._residuals(self.conv_in(x) + self.look(hint), self.embed(t, emb, *added), emb, scale)

    def _residuals(self, h: Tensor, temb: Tensor, emb: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
        """From the first hidden state h [B, C, h, w] and the time embedding temb [B, E]."""
        skips = [h]
        for layer in self.down:
            h = layer(h, temb, emb)
            skips.append(h)
        residuals = [zero(skip) for zero, skip in zip(self.zeros, skips, strict=True)]
        if self.mid is not None and self.mid_zero is not None:
            attends = getattr(self.mid, "has_cross_attention", False)
            residuals.append(self.mid_zero(self.mid(h, temb, encoder_hidden_states=emb) if attends else self.mid(h, temb)))
        scale = scale.to(h.dtype)[:, None, None, None]
        return tuple(scale * value for value in residuals)


class UnionPass(ControlPass):
    """The same of a ControlNet Union (diffusers' ControlNetUnionModel), which takes the kind of the map as well.

    forward(x, t, emb, hint, scale, kinds [B, number of MAPS], *added): kinds is 1 for the map's kind, 0 for others.
    """

    def __init__(self, control: Any, count: int | None = None) -> None:
        super().__init__(control, count)
        self.tasks = control.task_embedding
        self.layers = nn.ModuleList([_Token(block) for block in control.transformer_layes])
        self.project, self.time_proj = control.spatial_ch_projs, control.control_type_proj
        self.add_kind = control.control_add_embedding
        places = torch.zeros(len(MAPS), len(self.tasks))
        for row, name in enumerate(MAPS):
            places[row, UNION_KINDS[name]] = 1.0
        self.register_buffer("places", places, persistent=False)
        self.places: Tensor

    def forward(  # type: ignore[override]
        self, x: Tensor, t: Tensor, emb: Tensor, hint: Tensor, scale: Tensor, kinds: Tensor, *added: Tensor
    ) -> tuple[Tensor, ...]:
        kinds = kinds.float() @ self.places.float()  # [B, N]
        times = self.time_proj(kinds.flatten()).reshape(kinds.shape[0], -1).to(x.dtype)
        temb = self.embed(t, emb, *added) + self.add_kind(times)
        h, seen = self.conv_in(x), self.look(hint)
        token = seen.mean(dim=(2, 3)) + kinds.to(x.dtype) @ self.tasks
        for layer in self.layers:
            token = layer(token)
        return self._residuals(h + seen + self.project(token)[..., None, None], temb, emb, scale)


class _Token(nn.Module):
    """A ResidualAttentionBlock of a ControlNet Union for the map's token of one row, [B, C].

    diffusers gives its attention rows as the sequence, and all rows of a call have the same latent and map there. So a row
    attends to itself alone, and the attention is the projection of its value.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        attention, size = self.block.attn, x.shape[1]
        weight, bias = attention.in_proj_weight[2 * size :], attention.in_proj_bias[2 * size :]
        x = x + attention.out_proj(F.linear(self.block.ln_1(x), weight, bias))
        result: Tensor = x + self.block.mlp(self.block.ln_2(x))
        return result


class ControlSum(nn.Module):
    """The sum of several ControlNets' residuals, each times its own weight (diffusers' MultiControlNetModel).

    forward(x, t, emb, hint [B, 3n, 8h, 8w], scale, *added): the maps of n ControlNets. With a ControlNet Union among them, the
    kinds of the maps, [B, n · number of MAPS], come before `added`.
    """

    def __init__(self, passes: Sequence[ControlPass], weights: Sequence[float]) -> None:
        super().__init__()
        self.passes, self.weights = nn.ModuleList(passes), tuple(weights)
        self.takes_kinds = any(isinstance(one, UnionPass) for one in passes)

    def forward(self, x: Tensor, t: Tensor, emb: Tensor, hint: Tensor, scale: Tensor, *added: Tensor) -> tuple[Tensor, ...]:
        kinds = added[0].chunk(len(self.passes), dim=1) if self.takes_kinds else ()
        rest = added[self.takes_kinds :]
        made = []
        for index, (one, weight) in enumerate(zip(self.passes, self.weights, strict=True)):
            given = (kinds[index],) if isinstance(one, UnionPass) else ()
            made.append(one(x, t, emb, hint[:, 3 * index : 3 * index + 3], scale * weight, *given, *rest))
        return tuple(_total(values) for values in zip(*made, strict=True))


class AdapterPass(nn.Module):
    """The features of T2I-Adapters (arXiv 2302.08453), summed, each times its own weight; the first `count` of them.

    forward(hint [B, 3n, 8h, 8w] in 0..1, scale [B]) → features, outermost first. They do not depend on latent or timestep.
    """

    def __init__(self, adapters: Sequence[Any], weights: Sequence[float], count: int) -> None:
        super().__init__()
        self.adapters, self.weights, self.count = nn.ModuleList(adapters), tuple(weights), count

    def forward(self, hint: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
        made = []
        for index, (adapter, weight) in enumerate(zip(self.adapters, self.weights, strict=True)):
            taken: Any = adapter
            dtype = next(adapter.parameters()).dtype
            seen = taken(hint[:, 3 * index : 3 * index + taken.config.in_channels].to(dtype))[: self.count]
            made.append([(scale * weight).to(dtype)[:, None, None, None] * feature for feature in seen])
        return tuple(_total(values) for values in zip(*made, strict=True))


def _total(values: Sequence[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def steering(
    networks: Sequence[Any], weights: Sequence[float], branch: int | None = None, inside: Sequence[int] | None = None
) -> nn.Module:
    """What makes the residuals, or the features, of these ControlNets or T2I-Adapters for a full pass, or for a shallow one from
    a branch. inside: the skips that take features of T2I-Adapters, None for ControlNets."""
    if inside is not None:
        return AdapterPass(networks, weights, sum(branch is None or place <= branch for place in inside))
    count = None if branch is None else branch + 1
    passes = [(UnionPass if hasattr(one, "task_embedding") else ControlPass)(one, count) for one in networks]
    return passes[0] if len(passes) == 1 and weights[0] == 1.0 else ControlSum(passes, weights)


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
