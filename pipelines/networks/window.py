"""A UNet on a window of a latent, as it would see the whole: statistics and positions are those of the whole latent.

Group normalisation takes means and deviations over all pixels, and a position bias is stretched over all of them. `KeepingPass`
is the full pass that also gives the means and deviations of each normalisation; `WindowPass` takes them instead of its own, and
the place of its window for the position biases. What stays different: beyond the window's edge convolutions see zeros, and
attention sees the window alone, which is why only UNets with attention at the deepest level are taken (`gap`). Which windows,
and when: techniques/partial.py.

Modules are shared with the UNet, not copied; what differs for a window is in twins of the modules around it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.groupnorm import ModulatedGroupNorm
from pipelines.networks.position_bias import FASTER, PositionBiasConv2d
from pipelines.networks.unet import FullPass

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

LOCAL_AUTOENCODERS = ("CosineAutoencoder", "AutoencoderTiny")
"""Whose pixels depend on the latent around them alone: no normalisation and no attention over the whole picture."""


def gap(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> str | None:
    """Why a model cannot be computed in a window, for people, from its configurations; None where it can."""
    if len(unet.get("down_block_types") or ()) - 1 > UNIT.bit_length() - 1:
        return "its UNet halves the picture more often than windows are aligned to"
    down, up = tuple(unet.get("down_block_types") or ()), tuple(unet.get("up_block_types") or ())
    if any("Attn" in block for block in (*down[:-1], *up[1:])):
        return "its UNet looks at the whole picture at every size"
    if vae.get("_class_name") not in LOCAL_AUTOENCODERS:
        return "its autoencoder looks at the whole picture; a tiny one (+vae=) does not"
    return None


UNIT = 8
"""Windows begin at multiples of so many pixels of the latent: one at the deepest level of a UNet with three halvings."""


class Whole:
    """What normalisations and position biases exchange with the pass that runs. found: statistics [B, 2G] by their start;
    statistics [B, K] of all; origin [B, 2] of each row's window, in UNITs of the latent."""

    def __init__(self) -> None:
        self.found: dict[int, Tensor] = {}
        self.statistics = torch.zeros(1, 0)
        self.origin = torch.zeros(1, 2, dtype=torch.int64)


class _Norm(nn.Module):
    """An affine nn.GroupNorm or a ModulatedGroupNorm. start: of its numbers among all, means [G] and then deviations [G]."""

    def __init__(self, norm: Any, whole: Whole, start: int) -> None:
        super().__init__()
        self.groups = norm.groups if isinstance(norm, ModulatedGroupNorm) else norm.num_groups
        self.eps, self.whole, self.start = norm.eps, whole, start
        self.weight, self.bias = getattr(norm, "weight", None), getattr(norm, "bias", None)

    def modulation(self, given: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Scale and shift [B or 1, C]."""
        if given:
            return given[0], given[1]
        assert self.weight is not None and self.bias is not None
        return self.weight[None], self.bias[None]

    def channels(self, value: Tensor, count: int) -> Tensor:
        """[B, G] of groups for each of `count` channels: [B, C]."""
        return value[:, :, None].expand(-1, -1, count // self.groups).reshape(-1, count)


class MeasuringNorm(_Norm):
    """Normalises, and gives its statistics to `whole`. The variance is taken of centred values, as in kernels/groupnorm.py."""

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        scale, shift = self.modulation(given)
        count = x.shape[1]
        mean = self._means(x)  # [B, G]
        centred = x - self.channels(mean, count)[..., None, None]
        deviation = (self._means(centred * centred) + self.eps).sqrt()
        self.whole.found[self.start] = torch.cat([mean.float(), deviation.float()], dim=1)
        return centred * (scale / self.channels(deviation, count))[..., None, None] + shift[..., None, None]

    def _means(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)).reshape(-1, self.groups, x.shape[1] // self.groups).mean(2)


class FrozenNorm(_Norm):
    """Normalises by the statistics in `whole`."""

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        scale, shift = self.modulation(given)
        middle, end = self.start + self.groups, self.start + 2 * self.groups
        mean, deviation = self.whole.statistics[:, self.start : middle], self.whole.statistics[:, middle:end]
        scale = scale / self.channels(deviation, x.shape[1])
        shift = shift - self.channels(mean, x.shape[1]) * scale
        return x * scale[..., None, None] + shift[..., None, None]


class WindowBias:
    """A mix-in before PositionBiasConv2d, or a class derived from it: the map is stretched over the whole, and cut. units: size
    of the whole latent in UNITs, (height, width); share: of the window in it."""

    place: Tensor
    whole: Whole
    units: tuple[int, int]
    share: tuple[float, float]

    def add_map(self, y: Tensor) -> Tensor:
        lengths = [int(length) for length in y.shape[-2:]]  # numbers, also while this is traced
        size = [round(length / share) for length, share in zip(lengths, self.share, strict=True)]
        bias = F.interpolate((self.place * FASTER).float(), size=size, mode="bilinear", align_corners=False)
        steps = [length // units for length, units in zip(size, self.units, strict=True)]
        down, across = (torch.arange(length, device=y.device) for length in lengths)
        cut = []
        for row in range(int(y.shape[0])):
            top, left = self.whole.origin[row, 0] * steps[0], self.whole.origin[row, 1] * steps[1]
            cut.append(bias.index_select(2, down + top).index_select(3, across + left))
        return y + torch.cat(cut).to(y.dtype)


def twin(module: nn.Module, replaced: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """The module with other parts in the places of those that `replaced` gives one for. What holds none of them is shared, not
    copied. Attention keeps its own normalisations."""
    made = replaced(module)
    if made is not None:
        return made
    if type(module).__name__ == "Transformer2DModel":
        return module
    parts = {name: twin(child, replaced) for name, child in module._modules.items() if child is not None}
    if all(part is module._modules[name] for name, part in parts.items()):
        return module
    other = copy.copy(module)
    other._modules = {**module._modules, **parts}
    return other


class _Twin(nn.Module):
    """A twin of the full pass whose normalisations are of class `norm`."""

    norm: type[_Norm]

    def __init__(self, unet: UNet2DConditionModel) -> None:
        nn.Module.__init__(self)
        self.whole, self.size = Whole(), 0
        self.inner: Any = twin(FullPass(unet), self._replaced)

    def _replaced(self, module: nn.Module) -> nn.Module | None:
        if isinstance(module, nn.GroupNorm | ModulatedGroupNorm):
            made = self.norm(module, self.whole, self.size)
            self.size += 2 * made.groups
            return made
        return None


class KeepingPass(_Twin):
    """forward(x [B,C,H,W], modulation [B,M], emb [B,L,D]) → (out [B,C',H,W], statistics [B,K], float32); K is `size`."""

    norm = MeasuringNorm

    def forward(self, x: Tensor, modulation: Tensor, emb: Tensor) -> tuple[Tensor, Tensor]:
        out = self.inner(x, modulation, emb)[0]
        found, self.whole.found = self.whole.found, {}
        return out, torch.cat([found[start] for start in sorted(found)], dim=1)


class WindowPass(_Twin):
    """forward(x [B,C,h,w], modulation [B,M], emb [B,L,D], statistics [B,K], origin [B,2]) → (out [B,C',h,w],). x is a window of
    a latent; statistics: of KeepingPass on the whole one. origin: row and column of the window's first pixel, int64, in UNITs.
    size, window: of the whole latent and of the window, (height, width)."""

    norm = FrozenNorm

    def __init__(self, unet: UNet2DConditionModel, size: tuple[int, int], window: tuple[int, int]) -> None:
        self.share = window[0] / size[0], window[1] / size[1]
        self.units = size[0] // UNIT, size[1] // UNIT
        super().__init__(unet)

    def _replaced(self, module: nn.Module) -> nn.Module | None:
        if not isinstance(module, PositionBiasConv2d):
            return super()._replaced(module)
        made: Any = copy.copy(module)
        cls = type(module)
        made.__class__ = type(f"Window{cls.__name__}", (WindowBias, cls), {})
        made.whole, made.units, made.share = self.whole, self.units, self.share
        return made

    def forward(self, x: Tensor, modulation: Tensor, emb: Tensor, statistics: Tensor, origin: Tensor) -> tuple[Tensor]:
        self.whole.statistics, self.whole.origin = statistics, origin
        return (self.inner(x, modulation, emb)[0],)
