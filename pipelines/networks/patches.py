"""A UNet's pass over one half of a latent's rows; the other half is computed elsewhere (patch parallelism).

DistriFusion (arXiv 2402.19481). r is the number of the half, 0 above and 1 below; x_r are its rows. Three kinds of layers need
the other half, and nothing else does:

    convolution k × k   its ⌊k/2⌋ rows next to the border
    group norm          μ = (μ₀ + μ₁)/2,  σ² = (σ₀² + σ₁²)/2 + ((μ₀ − μ₁)/2)²
    self-attention      softmax(Q_r·[K₀ K₁]ᵀ/√d)·[V₀ V₁]

With `synchronous` a layer waits for them; the result is that of one device. With `stale` they are those of the call before at the
same level of the same stream (′), and what is sent arrives while the pass goes on. Group norms then take the paper's corrected
moments, for m = E[x] and E[x²], with σ_r² where E[x²] − E[x]² is not positive:

    m = (m₀′ + m₁′)/2 + (m_r − m_r′)

With `border` keys and values are, in addition, those of the part of the other half that is next to the border, as in PCPP
(arXiv 2412.02962). Independent of processes and devices: a `Transport` moves tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Sequence
from itertools import chain
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.attention import attend
from kernels.groupnorm import ModulatedGroupNorm
from pipelines.networks import attention
from pipelines.networks.position_bias import FASTER, PositionBiasConv2d

Exchange = Literal["synchronous", "stale", "border"]

BORDER = 0.3
"""Share of the other half's rows that `border` attends to. PCPP reports 70 % less communication."""


class Transport(Protocol):
    """Moves tensors between the two halves. An error, never an endless wait, where the other one is gone."""

    def swap(self, own: Tensor) -> Callable[[], Tensor]:
        """Send `own` and receive a tensor of its shape and dtype, both at once. Returns what waits for the received one. Both
        halves swap in the same order."""
        ...


class Halves:
    """What the layers of one half share: the other one's activations, by stream and level.

    place: 0 for the upper half, 1 for the lower one.
    """

    def __init__(self, place: int, transport: Transport, exchange: Exchange) -> None:
        self.place, self.transport, self.exchange = place, transport, exchange
        self._kept: dict[Hashable, dict[int, tuple[Tensor, Tensor]]] = {}  # by slot and layer: own, other
        self._slots: tuple[Hashable, ...] = ()
        self._pending: list[tuple[int, Tensor, Callable[[], Tensor]]] = []
        self._stale = False
        self.size = (0, 0)

    def begin(self, slots: Sequence[Hashable], stale: bool, size: tuple[int, int]) -> None:
        """A call begins. slots: of its rows, as `knows`. stale: it may take what was kept. size: of the half of the latent."""
        self._slots, self._stale, self.size = tuple(slots), stale, size

    def knows(self, slots: Sequence[Hashable]) -> bool:
        """Whether activations of an earlier call of all these are kept."""
        return self.exchange != "synchronous" and bool(slots) and all(slot in self._kept for slot in slots)

    def forget(self, slots: Sequence[Hashable]) -> None:
        for slot in slots:
            self._kept.pop(slot, None)

    def end(self) -> None:
        """The call is over: what was sent during it has arrived, and is kept for the next one."""
        pending, self._pending = self._pending, []
        for layer, own, wait in pending:
            self._keep(layer, own, wait())

    def swap(self, layer: int, own: Tensor) -> tuple[Tensor, Tensor | None]:
        """(the other half's tensor, the own one of the same call as that; None where it is the present one)."""
        own = own.contiguous()
        wait = self.transport.swap(own)
        if not self._stale:
            other = wait()
            self._keep(layer, own, other)
            return other, None
        before, other = (torch.stack(values) for values in zip(*(self._kept[slot][layer] for slot in self._slots), strict=True))
        self._pending.append((layer, own, wait))
        return other, before

    def _keep(self, layer: int, own: Tensor, other: Tensor) -> None:
        if self.exchange != "synchronous":
            for row, slot in enumerate(self._slots):
                self._kept.setdefault(slot, {})[layer] = own[row], other[row]


class HalfConvolution(nn.Module):
    """A convolution of one half, [B, C, h, w], with rows of the other one where the border is, and zeros at the frame's edges."""

    def __init__(self, convolution: nn.Conv2d, halves: Halves, layer: int) -> None:
        super().__init__()
        self.convolution, self.halves, self.layer = convolution, halves, layer

    def forward(self, x: Tensor) -> Tensor:
        inner, below = self.convolution, self.halves.place == 1
        rows, columns = (int(side) for side in inner.padding)
        other, _ = self.halves.swap(self.layer, x[..., :rows, :] if below else x[..., -rows:, :])
        x = torch.cat([other, x] if below else [x, other], dim=-2)
        x = F.pad(x, (columns, columns, 0, rows) if below else (columns, columns, rows, 0))
        y = F.conv2d(x, inner.weight, inner.bias, inner.stride, 0, inner.dilation, inner.groups)
        return y + self._bias(y) if isinstance(inner, PositionBiasConv2d) else y

    def _bias(self, y: Tensor) -> Tensor:
        """The half of the position bias, which is a map of the whole frame."""
        place: Any = self.convolution.place
        size = (2 * y.shape[-2], y.shape[-1])
        whole = F.interpolate((place * FASTER).float(), size=size, mode="bilinear", align_corners=False)
        return whole.chunk(2, dim=-2)[self.halves.place].to(y.dtype)


class HalfNorm(nn.Module):
    """Group normalisation with the statistics of both halves. Takes scale and shift [B, C] where the layer has none."""

    def __init__(self, norm: Any, halves: Halves, layer: int) -> None:
        super().__init__()
        self.groups, self.eps = (norm.num_groups if isinstance(norm, nn.GroupNorm) else norm.groups), norm.eps
        self.norm, self.halves, self.layer = norm, halves, layer

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        parts = x.float().unflatten(1, (self.groups, -1))
        variance, mean = torch.var_mean(parts, dim=(2, 3, 4), unbiased=False)  # [B, G]
        mean, variance = self._of_both(mean, variance)
        mean, deviation = mean[:, :, None, None, None], (variance + self.eps).rsqrt()[:, :, None, None, None]
        y = ((parts - mean) * deviation).flatten(1, 2)
        if scale is None or shift is None:
            scale, shift = self.norm.weight, self.norm.bias
        return y.to(x.dtype) if scale is None or shift is None else (y * _wide(scale) + _wide(shift)).to(x.dtype)

    def _of_both(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        other, before = self.halves.swap(self.layer, torch.stack([mean, variance], dim=1))
        mean_1, variance_1 = other.unbind(1)
        if before is None:
            return (mean + mean_1) / 2, (variance + variance_1) / 2 + ((mean - mean_1) / 2).square()
        mean_0, variance_0 = before.unbind(1)
        square_0, square_1 = variance_0 + mean_0.square(), variance_1 + mean_1.square()
        corrected = mean + (mean_1 - mean_0) / 2
        found = variance + mean.square() + (square_1 - square_0) / 2 - corrected.square()
        return corrected, torch.where(found > 0, found, variance)


class HalfAttention:
    """A processor of diffusers' `Attention`: queries of one half, keys and values of both. Attention to a text needs no other."""

    def __init__(self, kind: str, halves: Halves, layer: int) -> None:
        self.kind, self.halves, self.layer = kind, halves, layer

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        key, value = attn.to_k(context), attn.to_v(context)
        if encoder_hidden_states is None:
            other, _before = self.halves.swap(self.layer, self._sent(torch.cat([key, value], dim=-1)))
            more_keys, more_values = other.split([key.shape[-1], value.shape[-1]], dim=-1)
            key, value = torch.cat([key, more_keys], dim=1), torch.cat([value, more_values], dim=1)
        h = attend(attn.to_q(hidden_states), key, value, attn.heads, self.kind)
        return attn.to_out[1](attn.to_out[0](h))

    def _sent(self, tokens: Tensor) -> Tensor:
        """What the other half attends to, of [B, rows · columns, C]."""
        if self.halves.exchange != "border":
            return tokens
        height, width = self.halves.size
        rows = round((tokens.shape[1] * height / width) ** 0.5)
        count = tokens.shape[1] // rows * max(1, round(BORDER * rows))
        return tokens[:, :count] if self.halves.place == 1 else tokens[:, -count:]


def halved(module: nn.Module, halves: Halves) -> nn.Module:
    """A pass of unet.py for one half: 4-dimensional inputs and outputs are halves of rows, all others are as they were. Its
    weights are the module's own tensors. Raises ValueError for a layer that cannot be computed so."""
    tensors = chain(module.parameters(), module.buffers())
    copied = copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
    made: dict[int, nn.Module | None] = {}
    layers = iter(range(1_000_000))

    def exchanged(layer: nn.Module) -> nn.Module | None:
        if id(layer) not in made:
            made[id(layer)] = _half_of(layer, halves, layers)
        return made[id(layer)]

    def visit(owner: nn.Module) -> None:
        for name, layer in list(owner.named_children()):
            other = exchanged(layer)
            if other is None:
                visit(layer)
            else:
                setattr(owner, name, other)

    visit(copied)
    return copied


def _half_of(layer: nn.Module, halves: Halves, layers: Any) -> nn.Module | None:
    """What takes the place of a layer; None where it stays, and only what is inside may change."""
    if isinstance(layer, nn.GroupNorm | ModulatedGroupNorm):
        return HalfNorm(layer, halves, next(layers))
    if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
        same = tuple(side // 2 for side in layer.kernel_size)
        if (
            layer.padding_mode != "zeros"
            or layer.padding != same
            or layer.dilation != (1, 1)
            or not all(map(_odd, layer.kernel_size))
        ):
            raise ValueError(f"a convolution of {layer.kernel_size} with padding {layer.padding} cannot be halved")
        return HalfConvolution(layer, halves, next(layers))
    if isinstance(layer, nn.ConvTranspose2d | nn.BatchNorm2d | nn.InstanceNorm2d):
        raise ValueError(f"{type(layer).__name__} cannot be halved")
    if hasattr(layer, "set_processor"):
        if not attention.plain(layer):
            raise ValueError(f"attention by {type(getattr(layer, 'processor', None)).__name__} cannot be halved")
        attending: Any = layer
        attending.set_processor(HalfAttention(getattr(attending.processor, "kind", "sdpa"), halves, next(layers)))
    return None


def _odd(number: int) -> bool:
    return number % 2 == 1


def _wide(numbers: Tensor) -> Tensor:
    """[C] or [B, C] over a picture."""
    return numbers[..., None, None]
