"""A diffusers UNet as plain modules for static graphs: full pass, shallow pass, and decoder alone. Tensors in, tensors out.

Skips are numbered from the outside: skip 0 is conv_in's output, and up layer k joins skip k to the hidden state from below.
Branch b (DeepCache, arXiv 2312.00858: block b // (L + 1), layer b % (L + 1) for L layers per block) stores the hidden state
that enters up layer b. From there a shallow pass needs only skips 0..b and up layers b..0.

Timestep, prompt and added conditions are an input: one modulation vector for each row (modulation.py).

Independent of reuse decisions (feature_cache.py), sessions and backends. Modules are shared with the UNet, not copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.jit._trace import is_tracing

from pipelines.networks import latent_gate
from pipelines.networks.modulation import Resnet, modulation_size, wrapped_resnets

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

DOWN_BLOCKS = ("DownBlock2D", "CrossAttnDownBlock2D")
UP_BLOCKS = ("UpBlock2D", "CrossAttnUpBlock2D")
MID_BLOCKS = ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", "NoneType")


class Layer(nn.Module):
    """A resnet, then cross-attention if the block has it, then an upsampler in the block's last layer."""

    def __init__(self, resnet: Resnet, attention: nn.Module | None, upsampler: nn.Module | None = None) -> None:
        super().__init__()
        self.resnet = resnet
        self.attention = attention
        self.upsampler = upsampler

    def forward(self, h: Tensor, modulation: Tensor, emb: Tensor) -> Tensor:
        h = self.resnet(h, modulation)
        if self.attention is not None:
            h = self.attention(h, encoder_hidden_states=emb, return_dict=False)[0]
        return h if self.upsampler is None else self.upsampler(h)


class Downsample(nn.Module):
    """The downsampler between two blocks, with the interface of a Layer."""

    def __init__(self, downsampler: Any) -> None:
        super().__init__()
        self.downsampler: Any = downsampler

    def forward(self, h: Tensor, modulation: Tensor, emb: Tensor) -> Tensor:
        return self.downsampler(h)


def down_layers(unet: UNet2DConditionModel) -> list[Layer | Downsample]:
    """The encoder's layers, outermost first; the output of layer k − 1 is skip k."""
    wrapped = wrapped_resnets(unet)
    layers: list[Layer | Downsample] = []
    for block in unet.down_blocks:
        layers += [Layer(wrapped[id(resnet)], attention) for resnet, attention in _pairs(block)]
        layers += [Downsample(downsampler) for downsampler in block.downsamplers or ()]
    return layers


def mid_layers(unet: UNet2DConditionModel) -> list[Layer]:
    """The layers of the middle block. All but the last end in attention, if the block has it."""
    if unet.mid_block is None:
        return []
    wrapped = wrapped_resnets(unet)
    blocks = list(unet.mid_block.resnets)
    attentions = [*(unet.mid_block.attentions or [None] * (len(blocks) - 1)), None]
    return [Layer(wrapped[id(resnet)], attention) for resnet, attention in zip(blocks, attentions, strict=True)]


def up_layers(unet: UNet2DConditionModel) -> list[Layer]:
    """The decoder's layers, outermost first: layer k uses skip k."""
    wrapped = wrapped_resnets(unet)
    layers: list[Layer] = []
    for block in unet.up_blocks:
        layers += [Layer(wrapped[id(resnet)], attention) for resnet, attention in _pairs(block)]
        if block.upsamplers:
            layers[-1].upsampler = block.upsamplers[0]
    return layers[::-1]


def branches(unet: UNet2DConditionModel) -> int:
    """The number of re-entry points: branch 0 (recomputes least) to branches − 1 (saves the mid block only)."""
    return sum(len(block.resnets) for block in unet.up_blocks)


def check_branch(unet: UNet2DConditionModel, branch: int) -> int:
    """`branch` if the UNet has it. Raises ValueError naming the allowed range."""
    count = branches(unet)
    if isinstance(branch, bool) or not isinstance(branch, int) or not 0 <= branch < count:
        raise ValueError(f"branch {branch!r} is not allowed; this UNet has branches 0 to {count - 1}")
    return branch


def with_residuals(skips: Sequence[Tensor], residuals: Sequence[Tensor]) -> list[Tensor]:
    """Skips plus a ControlNet's residuals. Raises ValueError if their numbers differ."""
    if len(residuals) != len(skips):
        raise ValueError(f"{len(residuals)} residuals given for {len(skips)} skips")
    return [skip + residual for skip, residual in zip(skips, residuals, strict=True)]


class UNetPass(nn.Module):
    """Base of the passes: encoder and decoder layers of skips `first`..0. inside: the skips that features of a T2I-Adapter are
    added to, in the encoder; first + 1 is the middle's output. None where residuals are a ControlNet's."""

    def __init__(self, unet: UNet2DConditionModel, first: int, encode: bool = True, inside: Sequence[int] | None = None) -> None:
        super().__init__()
        self.inside = None if inside is None else tuple(inside)
        check_supported(unet)
        self.factor = 2 ** sum(bool(block.upsamplers) for block in unet.up_blocks)
        if encode:
            self.conv_in = unet.conv_in
            self.down = nn.ModuleList(down_layers(unet)[:first])
        self.up = nn.ModuleList(up_layers(unet)[: first + 1])
        self.norm_out = nn.Sequential(unet.conv_norm_out, unet.conv_act) if unet.conv_norm_out else nn.Identity()
        self.conv_out = unet.conv_out
        self.gate, self.gated_from = getattr(unet, latent_gate.NAME, None), modulation_size(unet.config)

    def encode(self, x: Tensor, modulation: Tensor, emb: Tensor, features: Sequence[Tensor] = ()) -> list[Tensor]:
        """Skips 0..first, outermost first; each [B, C_k, H_k, W_k]. features: of a T2I-Adapter, for the skips of `inside`."""
        added = dict(zip(self.inside or (), features, strict=False))
        if not is_tracing() and (x.shape[-2] % self.factor or x.shape[-1] % self.factor):
            raise ValueError(f"a latent of {x.shape[-2]}x{x.shape[-1]} does not fit; use multiples of {self.factor}")
        skips = [self.conv_in(x)]
        for layer in self.down:
            h = layer(skips[-1], modulation, emb)
            skips.append(h + added[len(skips)] if len(skips) in added else h)
        return skips

    def decode(
        self, x: Tensor, h: Tensor, skips: Sequence[Tensor], modulation: Tensor, emb: Tensor, keep: int | None = None
    ) -> tuple[Tensor, ...]:
        """(out,), or (out, the hidden state entering up layer `keep`). x: the latent, for a gate (latent_gate.py)."""
        kept: tuple[Tensor, ...] = ()
        for k in reversed(range(len(skips))):
            if k == keep:
                kept = (h,)
            h = self.up[k](torch.cat([h, skips[k]], dim=1), modulation, emb)
        h = self.norm_out(h)
        out = self.conv_out(h)
        if self.gate is not None:
            out = self.gate(out, h, x, modulation[:, self.gated_from : self.gated_from + self.gate.length])
        return (out, *kept)


class FullPass(UNetPass):
    """The whole UNet. With a branch it also returns the deep feature for ShallowPass, with `keep_encoder` the inputs of
    DecoderPass.

    forward(x [B,C,H,W], modulation [B,M], emb [B,L,D]) → (out [B,C',H,W],), or (out, deep), or (out, h, *skips). H and W are
    multiples of 2 to the number of upsamplers. A ControlNet's residuals may follow, one for each skip and one for the middle, or,
    with `inside`, a T2I-Adapter's features; the returned features contain them. Raises ValueError for other inputs.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        branch: int | None = None,
        keep_encoder: bool = False,
        inside: Sequence[int] | None = None,
    ) -> None:
        if branch is not None:
            check_branch(unet, branch)
            if keep_encoder:
                raise ValueError("a pass keeps either a branch or the encoder, not both")
        super().__init__(unet, branches(unet) - 1, inside=inside)
        self.mid = nn.ModuleList(mid_layers(unet))
        self.branch = branch
        self.keep_encoder = keep_encoder

    def forward(self, x: Tensor, modulation: Tensor, emb: Tensor, *residuals: Tensor) -> tuple[Tensor, ...]:
        skips = self.encode(x, modulation, emb, residuals if self.inside is not None else ())
        h = skips[-1]
        for layer in self.mid:
            h = layer(h, modulation, emb)
        if self.inside is not None:
            h = h + residuals[-1] if self.inside[-1] == len(skips) else h
        elif residuals:
            skips = with_residuals(skips, residuals[:-1])
            h = h + residuals[-1]
        outputs = self.decode(x, h, skips, modulation, emb, self.branch)
        return (*outputs, h, *skips) if self.keep_encoder else outputs


class ShallowPass(UNetPass):
    """The outer layers only, starting at a cached deep feature (DeepCache).

    forward(x [B,C,H,W], modulation [B,M], emb [B,L,D], deep [B, *deep_shape]) → (out [B,C',H,W],), or with `keep`, a branch
    further out, (out, its deep feature). With the deep feature of the same inputs it equals FullPass. A ControlNet's residuals
    for the computed skips may follow. Raises ValueError for other inputs.
    """

    def __init__(
        self, unet: UNet2DConditionModel, branch: int, keep: int | None = None, inside: Sequence[int] | None = None
    ) -> None:
        super().__init__(unet, check_branch(unet, branch), inside=inside)
        if keep is not None and not 0 <= keep < branch:
            raise ValueError(f"branch {keep} is not further out than branch {branch}")
        self.keep = keep

    def forward(self, x: Tensor, modulation: Tensor, emb: Tensor, deep: Tensor, *residuals: Tensor) -> tuple[Tensor, ...]:
        skips = self.encode(x, modulation, emb, residuals if self.inside is not None else ())
        added = residuals and self.inside is None
        return self.decode(x, deep, with_residuals(skips, residuals) if added else skips, modulation, emb, self.keep)


class DecoderPass(UNetPass):
    """The decoder alone, at another timestep, with an earlier pass's encoder (Faster Diffusion, arXiv 2312.09608).

    forward(modulation [B,M], emb [B,L,D], h, *skips) → (out [B,C',H,W],); h and skips are
    outputs of FullPass(unet, keep_encoder=True). The latent is no input, except for a gate (latent_gate.py), where x [B,C,H,W]
    comes first: the pass is useful between the steps of one frame; between frames it would repeat the old picture.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__(unet, branches(unet) - 1, encode=False)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        modulation, emb, h, *skips = given[self.gate is not None :]
        if len(skips) != len(self.up):
            raise ValueError(f"{len(skips)} skips given; this UNet has {len(self.up)}")
        return self.decode(given[0], h, skips, modulation, emb)


def skip_shapes(unet: UNet2DConditionModel, height: int, width: int) -> list[tuple[int, int, int]]:
    """(channels, height, width) of every skip for a latent of height x width, outermost first, without running the UNet.

    The last is also the shape of the mid block's output, the `h` of DecoderPass.
    """
    shapes = [(unet.conv_in.out_channels, height, width)]
    for layer in down_layers(unet)[: branches(unet) - 1]:
        _, h, w = shapes[-1]
        if isinstance(layer, Downsample):
            shapes.append((layer.downsampler.out_channels, h // 2, w // 2))
        else:
            shapes.append((layer.resnet.out_channels, h, w))
    return shapes


def deep_shape(unet: UNet2DConditionModel, branch: int, height: int, width: int) -> tuple[int, int, int]:
    """(channels, height, width) of the deep feature for a latent of height x width, without running the UNet.

    Raises ValueError for a branch that the UNet lacks.
    """
    channels, h, w = skip_shapes(unet, height, width)[check_branch(unet, branch)]
    return up_layers(unet)[branch].resnet.in_channels - channels, h, w


def guidance_embedding(w: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding [B, dim] (dim even) of w = guidance scale − 1, [B] (latent consistency models, arXiv 2310.04378)."""
    half = dim // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32, device=w.device) * (-math.log(10000.0) / (half - 1)))
    angles = 1000.0 * w.float()[:, None] * rates  # [B, dim / 2]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def check_supported(unet: UNet2DConditionModel) -> None:
    """Raises ValueError for a UNet with a feature that these passes do not compute; the message names it."""
    for blocks, known in ((unet.down_blocks, DOWN_BLOCKS), (unet.up_blocks, UP_BLOCKS)):
        for block in blocks:
            if type(block).__name__ not in known:
                raise ValueError(f"block {type(block).__name__} is not supported; supported are {', '.join(known)}")
            if getattr(block, "b1", None):
                raise ValueError("FreeU is on, which these passes do not support")
    config = unet.config
    for field, allowed in (
        ("addition_embed_type", (None, "text", "text_time")),
        ("class_embed_type", (None,)),
        ("num_class_embeds", (None,)),
        ("encoder_hid_dim_type", (None,)),
        ("center_input_sample", (False,)),
    ):
        if config[field] not in allowed:
            raise ValueError(f"{field} = {config[field]!r} is not supported; supported are {', '.join(map(repr, allowed))}")
    middle = type(unet.mid_block).__name__
    if middle not in MID_BLOCKS:
        raise ValueError(f"middle block {middle} is not supported; supported are {', '.join(MID_BLOCKS[:2])}, or none")
    if config.attention_type != "default":
        raise ValueError(f"attention_type = {config.attention_type!r} is not supported; supported is 'default'")


def _pairs(block: Any) -> list[tuple[Any, Any]]:
    attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
    return list(zip(block.resnets, attentions, strict=True))
