"""A diffusers UNet as plain modules for static graphs: full pass, shallow pass, and decoder alone. Tensors in, tensors out.

The UNet is seen as skips numbered from the outside: skip 0 is conv_in's output, and up layer k is the one that joins skip k
to what comes from below. Branch b (DeepCache, arXiv 2312.00858: block b // (L + 1), layer b % (L + 1) for L layers per block)
keeps the hidden state that enters up layer b. From there a shallow pass needs only skips 0..b and up layers b..0.

What timestep, prompt and added conditions tell the resnets comes in as one vector a row (modulation.py).

Knows nothing of when to reuse what (feature_cache.py), of sessions or of backends. Modules are shared with the UNet, not copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.jit._trace import is_tracing
from torch.utils.flop_counter import FlopCounterMode

from pipelines.networks.modulation import Resnet, wrapped_resnets

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

DOWN_BLOCKS = ("DownBlock2D", "CrossAttnDownBlock2D")
UP_BLOCKS = ("UpBlock2D", "CrossAttnUpBlock2D")
MID_BLOCKS = ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", "NoneType")


class Layer(nn.Module):
    """A resnet, then cross-attention where the block has it, then an upsampler where it is the block's last."""

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
    """The downsampler between two blocks, called like a Layer."""

    def __init__(self, downsampler: Any) -> None:
        super().__init__()
        self.downsampler: Any = downsampler

    def forward(self, h: Tensor, modulation: Tensor, emb: Tensor) -> Tensor:
        return self.downsampler(h)


def down_layers(unet: UNet2DConditionModel) -> list[Layer | Downsample]:
    """The layers of the way down, outermost first; the output of layer k − 1 is skip k."""
    wrapped = wrapped_resnets(unet)
    layers: list[Layer | Downsample] = []
    for block in unet.down_blocks:
        layers += [Layer(wrapped[id(resnet)], attention) for resnet, attention in _pairs(block)]
        layers += [Downsample(downsampler) for downsampler in block.downsamplers or ()]
    return layers


def mid_layers(unet: UNet2DConditionModel) -> list[Layer]:
    """The layers of the middle: all but the last end in attention, where the block has it."""
    if unet.mid_block is None:
        return []
    wrapped = wrapped_resnets(unet)
    blocks = list(unet.mid_block.resnets)
    attentions = [*(unet.mid_block.attentions or [None] * (len(blocks) - 1)), None]
    return [Layer(wrapped[id(resnet)], attention) for resnet, attention in zip(blocks, attentions, strict=True)]


def up_layers(unet: UNet2DConditionModel) -> list[Layer]:
    """The layers of the way up, outermost first: layer k takes skip k."""
    wrapped = wrapped_resnets(unet)
    layers: list[Layer] = []
    for block in unet.up_blocks:
        layers += [Layer(wrapped[id(resnet)], attention) for resnet, attention in _pairs(block)]
        if block.upsamplers:
            layers[-1].upsampler = block.upsamplers[0]
    return layers[::-1]


def branches(unet: UNet2DConditionModel) -> int:
    """How many re-entry points there are: branch 0 (recomputes least) to branches − 1 (saves the mid block only)."""
    return sum(len(block.resnets) for block in unet.up_blocks)


def check_branch(unet: UNet2DConditionModel, branch: int) -> int:
    """`branch` if the UNet has it. Raises ValueError naming the allowed range."""
    count = branches(unet)
    if isinstance(branch, bool) or not isinstance(branch, int) or not 0 <= branch < count:
        raise ValueError(f"branch {branch!r} is not allowed; this UNet has branches 0 to {count - 1}")
    return branch


def steered(skips: Sequence[Tensor], residuals: Sequence[Tensor]) -> list[Tensor]:
    """Skips with what a ControlNet adds to each. Raises ValueError for another number of residuals."""
    if len(residuals) != len(skips):
        raise ValueError(f"{len(residuals)} residuals given for {len(skips)} skips")
    return [skip + residual for skip, residual in zip(skips, residuals, strict=True)]


class UNetPass(nn.Module):
    """What the passes share: the way in and the way out through skips `first`..0 and their layers."""

    def __init__(self, unet: UNet2DConditionModel, first: int, encode: bool = True) -> None:
        super().__init__()
        check_supported(unet)
        self.factor = 2 ** sum(bool(block.upsamplers) for block in unet.up_blocks)
        if encode:
            self.conv_in = unet.conv_in
            self.down = nn.ModuleList(down_layers(unet)[:first])
        self.up = nn.ModuleList(up_layers(unet)[: first + 1])
        self.norm_out = nn.Sequential(unet.conv_norm_out, unet.conv_act) if unet.conv_norm_out else nn.Identity()
        self.conv_out = unet.conv_out

    def encode(self, x: Tensor, modulation: Tensor, emb: Tensor) -> list[Tensor]:
        """Skips 0..first, outermost first; each [B, C_k, H_k, W_k]."""
        if not is_tracing() and (x.shape[-2] % self.factor or x.shape[-1] % self.factor):
            raise ValueError(f"a latent of {x.shape[-2]}x{x.shape[-1]} does not fit; multiples of {self.factor} do")
        skips = [self.conv_in(x)]
        for layer in self.down:
            skips.append(layer(skips[-1], modulation, emb))
        return skips

    def decode(
        self, h: Tensor, skips: Sequence[Tensor], modulation: Tensor, emb: Tensor, keep: int | None = None
    ) -> tuple[Tensor, ...]:
        """(out,), or (out, the hidden state entering up layer `keep`)."""
        kept: tuple[Tensor, ...] = ()
        for k in reversed(range(len(skips))):
            if k == keep:
                kept = (h,)
            h = self.up[k](torch.cat([h, skips[k]], dim=1), modulation, emb)
        return (self.conv_out(self.norm_out(h)), *kept)


class FullPass(UNetPass):
    """The whole UNet. With a branch it also returns the deep feature for ShallowPass, with `keep_encoder` what DecoderPass takes.

    forward(x [B,C,H,W], modulation [B,M], emb [B,L,D]) → (out [B,C',H,W],), or (out, deep), or (out, h, *skips).
    H and W are multiples of 2 to the number of upsamplers. Behind them may come a ControlNet's residuals, one for each skip and
    one for the middle; what the pass keeps holds them already. Raises ValueError for inputs that it does not take.
    """

    def __init__(self, unet: UNet2DConditionModel, branch: int | None = None, keep_encoder: bool = False) -> None:
        if branch is not None:
            check_branch(unet, branch)
            if keep_encoder:
                raise ValueError("a pass keeps either a branch or the encoder, not both")
        super().__init__(unet, branches(unet) - 1)
        self.mid = nn.ModuleList(mid_layers(unet))
        self.branch = branch
        self.keep_encoder = keep_encoder

    def forward(self, x: Tensor, modulation: Tensor, emb: Tensor, *residuals: Tensor) -> tuple[Tensor, ...]:
        skips = self.encode(x, modulation, emb)
        h = skips[-1]
        for layer in self.mid:
            h = layer(h, modulation, emb)
        if residuals:
            skips = steered(skips, residuals[:-1])
            h = h + residuals[-1]
        outputs = self.decode(h, skips, modulation, emb, self.branch)
        return (*outputs, h, *skips) if self.keep_encoder else outputs


class ShallowPass(UNetPass):
    """The outer layers only, from a cached deep feature on (DeepCache).

    forward(x [B,C,H,W], modulation [B,M], emb [B,L,D], deep [B, *deep_shape]) → (out [B,C',H,W],), or with `keep`, a branch
    further out, (out, its deep feature). With the deep feature of the same inputs it equals FullPass. Behind them may come a
    ControlNet's residuals for the skips that it computes. Raises ValueError as FullPass does.
    """

    def __init__(self, unet: UNet2DConditionModel, branch: int, keep: int | None = None) -> None:
        super().__init__(unet, check_branch(unet, branch))
        if keep is not None and not 0 <= keep < branch:
            raise ValueError(f"branch {keep} is not further out than branch {branch}")
        self.keep = keep

    def forward(self, x: Tensor, modulation: Tensor, emb: Tensor, deep: Tensor, *residuals: Tensor) -> tuple[Tensor, ...]:
        skips = self.encode(x, modulation, emb)
        return self.decode(deep, steered(skips, residuals) if residuals else skips, modulation, emb, self.keep)


class DecoderPass(UNetPass):
    """The way up alone, at another timestep, from an earlier pass's encoder (Faster Diffusion, arXiv 2312.09608).

    forward(modulation [B,M], emb [B,L,D], h, *skips) → (out [B,C',H,W],); h and skips as
    FullPass(unet, keep_encoder=True) returned them. It never sees the latent: of use between the steps of one frame, while
    between frames it would repeat the old picture.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__(unet, branches(unet) - 1, encode=False)

    def forward(self, modulation: Tensor, emb: Tensor, h: Tensor, *skips: Tensor) -> tuple[Tensor, ...]:
        if len(skips) != len(self.up):
            raise ValueError(f"{len(skips)} skips given; this UNet has {len(self.up)}")
        return self.decode(h, skips, modulation, emb)


def skip_shapes(unet: UNet2DConditionModel, height: int, width: int) -> list[tuple[int, int, int]]:
    """(channels, height, width) of every skip for a latent of height x width, outermost first, without running anything.

    The last is also the shape of what leaves the mid block, the `h` of DecoderPass.
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
    """(channels, height, width) of the deep feature for a latent of height x width, without running anything.

    Raises ValueError for a branch that the UNet does not have.
    """
    channels, h, w = skip_shapes(unet, height, width)[check_branch(unet, branch)]
    return up_layers(unet)[branch].resnet.in_channels - channels, h, w


def multiply_adds(module: nn.Module, *inputs: Tensor) -> int:
    """Multiply-adds of one call, by running it (free on the meta device): convolutions, products, attention."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return int(counter.get_total_flops()) // 2


def guidance_embedding(w: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding [B, dim] (dim even) of w = guidance scale − 1, [B] (latent consistency models, arXiv 2310.04378)."""
    half = dim // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32, device=w.device) * (-math.log(10000.0) / (half - 1)))
    angles = 1000.0 * w.float()[:, None] * rates  # [B, dim / 2]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def check_supported(unet: UNet2DConditionModel) -> None:
    """Raises ValueError naming what a UNet has that these passes would compute wrongly."""
    for blocks, known in ((unet.down_blocks, DOWN_BLOCKS), (unet.up_blocks, UP_BLOCKS)):
        for block in blocks:
            if type(block).__name__ not in known:
                raise ValueError(f"block {type(block).__name__} is not supported; {', '.join(known)} are")
            if getattr(block, "b1", None):
                raise ValueError("FreeU is switched on, which these passes do not compute")
    config = unet.config
    for field, allowed in (
        ("addition_embed_type", (None, "text", "text_time")),
        ("class_embed_type", (None,)),
        ("num_class_embeds", (None,)),
        ("encoder_hid_dim_type", (None,)),
        ("center_input_sample", (False,)),
    ):
        if config[field] not in allowed:
            raise ValueError(f"{field} = {config[field]!r} is not supported; {', '.join(map(repr, allowed))} are")
    middle = type(unet.mid_block).__name__
    if middle not in MID_BLOCKS:
        raise ValueError(f"middle block {middle} is not supported; {', '.join(MID_BLOCKS[:2])} are, or none")
    if config.attention_type != "default":
        raise ValueError(f"attention_type = {config.attention_type!r} is not supported; 'default' is")


def _pairs(block: Any) -> list[tuple[Any, Any]]:
    attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
    return list(zip(block.resnets, attentions, strict=True))
