"""A UNet at sizes other than its native one: scaled and windowed self-attention, and the pass with halved deeper blocks.

The equations and their papers: techniques/hires.py. Attention is changed in the UNet itself, for all of its passes; modules and
weights are shared with the UNet.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.attention import attend
from pipelines.networks import attention
from pipelines.networks.attention import PlainAttention
from pipelines.networks.unet import Downsample, FullPass

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

SHIFTS = 4
"""Shifts of the windows: so many quarters of a window, from 0."""


@dataclass(frozen=True, slots=True)
class Hires:
    """What is done to a UNet. start: the outermost block with attention, 0 or 1. size: of the latent, (height, width). native:
    cells of the latent at the native size. windows: the attention of that block works in windows. halves: the first share of
    the steps has RAU-Net."""

    start: int
    size: tuple[int, int]
    native: int
    windows: bool
    halves: bool


def temperature(keys: int, native: int) -> float:
    """The factor of the logits for so many keys, where the network was trained with `native`; 1 where either has no entropy."""
    return math.sqrt(math.log(keys) / math.log(native)) if keys > 1 and native > 1 else 1.0


class Windows:
    """What the pass that runs gives its windowed layers. shift [B]: quarters of a window for each row, 0..3."""

    def __init__(self) -> None:
        self.shift = torch.zeros(1)


class ScaledAttention(PlainAttention):
    """Self-attention with the entropy of the native size. native: keys of this layer there."""

    def __init__(self, kind: str, native: int) -> None:
        super().__init__(kind)
        self.native = native

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        return self._attended(attn, hidden_states, 1)

    def _attended(self, attn: Any, x: Tensor, parts: int) -> Tensor:
        """The layer on tokens [B, N, C]; those of each of the equal parts of a row see each other alone. The projections take
        whole rows, since branches of LoRAs have gains for each."""
        rows, tokens = int(x.shape[0]), int(x.shape[1])
        query = attn.to_q(x) * temperature(tokens // parts, self.native)
        query, key, value = (one.reshape(rows * parts, tokens // parts, -1) for one in (query, attn.to_k(x), attn.to_v(x)))
        h = attend(query, key, value, attn.heads, self.kind).reshape(rows, tokens, -1)
        return attn.to_out[1](attn.to_out[0](h))


class WindowedAttention(ScaledAttention):
    """The same in 2 x 2 windows (MSW-MSA). The layer has buffers with the orders of tokens, see `_add_orders`."""

    def __init__(self, kind: str, native: int, windows: Windows) -> None:
        super().__init__(kind, native)
        self.windows = windows

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        tokens = int(hidden_states.shape[1])
        shift = (self.windows.shift + 0.5).to(torch.int64)  # [B]
        inside = _ordered(hidden_states, getattr(attn, f"window_order_{tokens}"), shift)
        return _ordered(self._attended(attn, inside, 4), getattr(attn, f"window_back_{tokens}"), shift)


def _ordered(x: Tensor, orders: Tensor, shift: Tensor) -> Tensor:
    """Tokens [B, N, C] of each row in the order [4, N] of its shift [B]; one gather for all rows."""
    rows, tokens, width = (int(length) for length in x.shape)
    first = torch.arange(rows, device=x.device)[:, None] * tokens
    places = orders.index_select(0, shift) + first  # [B, N]
    return x.reshape(rows * tokens, width).index_select(0, places.reshape(-1)).reshape(rows, tokens, width)


def window_orders(height: int, width: int) -> Tensor:
    """[4, N]: for each shift the tokens of a height x width picture, window after window. Both sides are even."""
    h, w = height // 2, width // 2
    cells = torch.arange(height * width).reshape(height, width)
    found = []
    for quarters in range(SHIFTS):
        rolled = cells.roll((-quarters * (h // SHIFTS), -quarters * (w // SHIFTS)), (0, 1))
        found.append(rolled.reshape(2, h, 2, w).permute(0, 2, 1, 3).reshape(-1))
    return torch.stack(found)


def _add_orders(layer: nn.Module, height: int, width: int, place: int) -> None:
    """Give a layer the order of its tokens in windows, and the way back, by shift. place: of the layer among the windowed ones;
    each has another shift. Buffers, since they must be where the layer is."""
    orders = window_orders(height, width).roll(-place, 0)
    layer.register_buffer(f"window_order_{height * width}", orders, persistent=False)
    layer.register_buffer(f"window_back_{height * width}", orders.argsort(dim=1), persistent=False)


def install(unet: UNet2DConditionModel, hires: Hires) -> Windows:
    """Change the self-attention of a UNet in place. Returns what holds the shifts of its windows. Layers with a processor of
    their own are left alone."""
    windows, place, (height, width) = Windows(), 0, hires.size
    for level, windowed, layer in _self_attentions(unet, hires):
        native, kind = hires.native // 4**level, layer.processor.kind if hasattr(layer.processor, "kind") else "sdpa"
        if not windowed:
            layer.set_processor(ScaledAttention(kind, native))
            continue
        layer.set_processor(WindowedAttention(kind, native, windows))
        for halvings in {level, level + (hires.halves and hires.start > 0)}:  # RAU-Net halves within that block
            _add_orders(layer, height >> halvings, width >> halvings, place)
        place += 1
    return windows


def _self_attentions(unet: Any, hires: Hires) -> list[tuple[int, bool, Any]]:
    """(halvings above it, whether it is windowed, layer) of each self-attention, in the order of computation."""
    last = len(unet.down_blocks) - 1
    blocks = [*enumerate(unet.down_blocks), (last, unet.mid_block)]
    blocks += [(last - index, block) for index, block in enumerate(unet.up_blocks)]
    found = []
    for level, block in blocks:
        windowed = hires.windows and level == hires.start and block is not unet.mid_block
        for name, layer in [] if block is None else block.named_modules():
            if name.endswith(".attn1") and attention.plain(layer) and not layer.is_cross_attention:
                found.append((level, windowed, layer))
    return found


class Shifted(nn.Module):
    """A pass whose modulation ends in the shift of each row's windows. place: of the modulation among the inputs."""

    def __init__(self, inner: nn.Module, windows: Windows, place: int) -> None:
        super().__init__()
        self.inner, self.windows, self.place = inner, windows, place

    def forward(self, *inputs: Tensor) -> Any:
        self.windows.shift = inputs[self.place][:, -1]
        return self.inner(*inputs)


class _StrideFour(nn.Module):
    """A downsampler's convolution at a quarter of the size: stride 4, padding 2, dilation 2."""

    def __init__(self, downsampler: Any) -> None:
        super().__init__()
        self.conv: Any = copy.copy(downsampler.conv)  # shares the weights, and whatever else the layer has
        self.conv.stride, self.conv.padding, self.conv.dilation = (4, 4), (2, 2), (2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _FourTimes(nn.Module):
    """An upsampler that enlarges fourfold."""

    def __init__(self, upsampler: Any) -> None:
        super().__init__()
        self.conv: Any = upsampler.conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=4.0, mode="nearest"))


class _Averaged(nn.Module):
    """A layer, then the mean over 2 x 2."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, h: Tensor, modulation: Tensor, emb: Tensor) -> Tensor:
        return F.avg_pool2d(self.layer(h, modulation, emb), 2)


class _Enlarged(nn.Module):
    """A layer, then bicubic enlargement to twice the size."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, h: Tensor, modulation: Tensor, emb: Tensor) -> Tensor:
        h = self.layer(h, modulation, emb)
        height, width = (int(length) for length in h.shape[-2:])
        return F.interpolate(h, size=(2 * height, 2 * width), mode="bicubic")


class HalvedPass(FullPass):
    """The full pass of RAU-Net: as FullPass, H and W multiples of twice as much. start: as in Hires."""

    def __init__(self, unet: UNet2DConditionModel, start: int) -> None:
        super().__init__(unet)
        self.factor *= 2
        place = next(index for index, layer in enumerate(self.down) if isinstance(layer, Downsample))
        if start:
            self.down[place + 1] = _Averaged(self.down[place + 1])
            self.up[place + 2] = _Enlarged(self.up[place + 2])
            return
        down: Any = self.down[place]
        up: Any = self.up[place + 1]
        down.downsampler, up.upsampler = _StrideFour(down.downsampler), _FourTimes(up.upsampler)
