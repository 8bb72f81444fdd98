"""A painter of our own: nearly all work at a quarter of the picture's size, nothing but a shuffle at full size.

Like `pipelines.networks.painter` a style is a vector of numbers (γ, β of every channel), and looks mix rows of a table of styles.
What differs is the price, 4.8 GFLOP at 512 x 512 for 10.2: a pixel unshuffle instead of wide convolutions at full size, and
every doubling is bilinear with a 3x3 convolution behind it, computed as one convolution before a pixel shuffle (`Doubling`). A
free convolution before a shuffle drew periods of 2 and 4 pixels; this one cannot, its four phases are one smooth filter. The
last two convolutions have no statistics: with them the network painted white blobs, whose only use was in the statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from pipelines.networks.painter import StyleTable
from pipelines.values.picture_style import TONE

REDUCTION = 4
"""A picture's side over the trunk's."""

PACKED = [16 * c + 8 * a + 4 * b + 2 * p + q for c in range(3) for b in (0, 1) for q in (0, 1) for a in (0, 1) for p in (0, 1)]
"""The channels of a picture's `pixel_unshuffle` by 4 in the order of that by 2, twice."""

EPS = 1e-5

BILINEAR = (
    ((0.75, 0.25, 0.0), (0.25, 0.75, 0.0), (0.0, 0.75, 0.25)),
    ((0.25, 0.75, 0.0), (0.0, 0.75, 0.25), (0.0, 0.25, 0.75)),
)
"""[phase, tap of the convolution after doubling, tap before it]: which share of which pixel a tap sees."""


class Conv(nn.Conv2d):
    """3x3, the picture continued by reflection at its borders: padding by zeros draws a frame."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(in_channels, channels, 3, padding=1, padding_mode="reflect", bias=False)

    def forward(self, x: Tensor, order: list[int] | None = None) -> Tensor:
        """order: that of the channels of x, where it is not the weights' own."""
        return self._conv_forward(x, self.weight if order is None else self.weight[:, order], None)


class Doubling(nn.Module):
    """A 3x3 convolution of the bilinearly doubled picture, [B, I, h, w] to [B, 4·C, h, w]: the phases that a pixel shuffle
    makes [B, C, 2h, 2w] of. The same products as after the doubling, on a quarter of the memory."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        phases = torch.tensor(BILINEAR, dtype=x.dtype, device=x.device)
        weight = torch.einsum("oikl,pkt,qlu->opqitu", self.conv.weight, phases, phases).flatten(0, 2)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), weight)


class Norm(nn.Module):
    """γ · norm(h) + β, or γ · h + β. The normalisation is over each channel of each row alone; γ and β are read from the style's
    numbers: γ [C] from `start` on, then β [C]. parts: neighbouring channels of h that are one of C, as the phases of `Doubling`
    are."""

    def __init__(self, channels: int, start: int, parts: int = 1, normalised: bool = True) -> None:
        super().__init__()
        self.channels, self.start, self.parts, self.normalised = channels, start, parts, normalised

    def forward(self, h: Tensor, style: Tensor, kept: bool = False, folded: Tensor | None = None) -> Tensor:
        """kept: without the normalisation, as the style holds its statistics. folded [B, N]: where such a style is written."""
        middle, end = self.start + self.channels, self.start + 2 * self.channels
        gamma, beta = style[:, self.start : middle], style[:, middle:end]  # [B, C] each
        if self.normalised and not kept:
            if folded is not None:
                variance, mean = torch.var_mean(h.float().unflatten(1, (self.channels, -1)), dim=(2, 3, 4), unbiased=False)
                scale = gamma * (variance + EPS).rsqrt()
                folded[:, self.start : middle], folded[:, middle:end] = scale, beta - scale * mean
            h = F.group_norm(h, self.channels, eps=EPS)
        if self.parts > 1:
            gamma, beta = (numbers.repeat_interleave(self.parts, dim=1) for numbers in (gamma, beta))
        return h * gamma[:, :, None, None] + beta[:, :, None, None]


class TrunkPainter(StyleTable, ModelMixin, ConfigMixin):
    """Pictures and styles to painted pictures.

    `styles` [S, N] are learnt; `looks` in the configuration are the names of mixtures of them: name -> {row: share}.
    """

    styles: nn.Parameter

    @register_to_config
    def __init__(
        self,
        channels: int = 32,
        num_blocks: int = 5,
        half_channels: int = 16,
        num_styles: int = 26,
        looks: Mapping[str, Mapping[str, float]] | None = None,
        toned: bool = False,
    ) -> None:
        super().__init__()
        self.style_numbers = 0
        self.from_picture = Conv(3 * REDUCTION**2, channels)
        self.middle = nn.ModuleList(Conv(channels, channels) for _ in range(2 * num_blocks))
        self.to_half = Doubling(channels, half_channels)
        self.from_half_picture = Conv(12, half_channels)
        self.at_half = Conv(half_channels, half_channels)
        self.to_picture = Doubling(half_channels, 3)
        widths = [channels] * (1 + 2 * num_blocks) + [half_channels]
        self.norms = nn.ModuleList(self._norm(width) for width in widths)
        self.norms.extend([self._norm(half_channels, normalised=False), self._norm(3, parts=4, normalised=False)])
        self.styles = nn.Parameter(torch.zeros(num_styles, self.style_numbers + (TONE if toned else 0)))
        for norm in self.norms:
            self.styles.data[:, norm.start : norm.start + norm.channels] = 1.0  # type: ignore[operator]

    def _norm(self, channels: int, parts: int = 1, normalised: bool = True) -> Norm:
        start = self.style_numbers
        self.style_numbers += 2 * channels
        return Norm(channels, start, parts, normalised)

    def forward(self, picture: Tensor, style: Tensor, kept: bool = False, folded: Tensor | None = None) -> Tensor:
        """Paints pictures.

        picture: [B, 3, H, W], nominally in [-1, 1] (beyond it is cut), H and W multiples of 4, at least 8. style: [B, N]
        or [1, N], with a tone N + TONE. kept: the style is one of `fold`, so nothing is measured. folded: see `fold`.
        Returns [B, 3, H, W] in [-1, 1].
        """
        return self.features(picture, style, kept, folded)[0]

    def features(
        self, picture: Tensor, style: Tensor, kept: bool = False, folded: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """The painted picture as `forward` makes it, and what each block left, [B, channels, H/4, W/4]."""
        found: list[Tensor] = []
        packed = F.pixel_unshuffle(picture, 2)
        return F.pixel_shuffle(self._painted(packed, style, found, kept, folded), 2), found

    def paint_packed(self, packed: Tensor, style: Tensor, kept: bool = False, folded: Tensor | None = None) -> Tensor:
        """As `forward` paints, [B, 12, H/2, W/2] of pictures as `pixel_unshuffle` by 2 packs them; nothing has the full size."""
        return self._painted(packed, style, [], kept, folded)

    def _painted(
        self, packed: Tensor, style: Tensor, found: list[Tensor], kept: bool = False, folded: Tensor | None = None
    ) -> Tensor:
        drawn = self.norms[-1](self._drawn(packed, style, found, kept, folded), style, kept, folded)
        return self._finished(torch.tanh(drawn), style)

    def last(self, picture: Tensor, style: Tensor) -> Tensor:
        """What the last scales and shifts are applied to, [B, 3, H, W]: a picture before it has its colours."""
        return F.pixel_shuffle(self._drawn(F.pixel_unshuffle(picture, 2), style, []), 2)

    def ends(self, pictures: Sequence[Tensor], numbers: Tensor) -> Tensor:
        """Means and deviations [6] of `last` over pictures, [1, 3, H, W] each, in a style [N]."""
        drawn = torch.cat([self.last(picture, numbers[None])[0].flatten(1) for picture in pictures], 1)
        return torch.cat([drawn.mean(1), drawn.std(1)])

    def _drawn(
        self, packed: Tensor, style: Tensor, found: list[Tensor], kept: bool = False, folded: Tensor | None = None
    ) -> Tensor:
        """[B, 12, H/2, W/2]; what each block left is put into `found`."""
        packed = packed.clamp(-1, 1)
        norms = iter(self.norms)

        def styled(h: Tensor) -> Tensor:
            normed: Tensor = next(norms)(h, style, kept, folded)
            return normed

        h = F.relu(styled(self.from_picture(F.pixel_unshuffle(packed, 2), PACKED)))
        for first, second in zip(self.middle[::2], self.middle[1::2], strict=True):
            h = h + styled(second(F.relu(styled(first(h)))))
            found.append(h)
        half = F.pixel_shuffle(self.to_half(h), 2) + self.from_half_picture(packed)
        drawn: Tensor = self.to_picture(F.relu(styled(self.at_half(F.relu(styled(half))))))
        return drawn

    def fold(self, picture: Tensor, style: Tensor) -> Tensor:
        """The style [B, N] that paints without statistics as `style` paints this picture with them: γ/σ and β − γμ/σ.

        A stream may keep it (a moving average of it, too) over frames of one scene: the normalisations then cost nothing.
        """
        folded = style.expand(len(picture), -1).clone()
        self(picture, style, folded=folded)
        return folded
