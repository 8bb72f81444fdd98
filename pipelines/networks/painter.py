"""A painter: a network that repaints a picture in a style, where a style is a vector of numbers.

Multi-style transfer with conditional instance normalisation (Dumoulin et al. 2017, "A learned representation for artistic
style", arXiv:1610.07629): all styles share the convolutions; a style is the scale γ and the shift β of every normalised
channel. So styles are blended by blending their numbers, and a new style needs new numbers only. Independent of prompts and
streams.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from pipelines.values.picture_style import TONE

MULTIPLE = 8
"""Sides of a picture are multiples of this (two halvings need 4; the autoencoder's latents need 8)."""

EPS = 1e-5

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601: how much of a colour's light R, G and B are."""


def toned(picture: Tensor, tone: Tensor) -> Tensor:
    """A picture printed in two colours: what is black gets the dark one, what is white the light one.

    The scales and shifts of the last layer set a palette's mean and spread, but keep its hues; pencil, chalk and a linocut have
    none. picture: [B, 3, H, W] in [-1, 1], or packed [B, 12, h, w]. tone: [B, 7]; share 0 leaves the picture as it is. Returns
    the same shape.
    """
    share, dark, light = tone.split((1, 3, 3), dim=1)
    luma = torch.tensor(LUMA, dtype=picture.dtype, device=picture.device)
    spread = share * (light - dark) / 2  # [B, 3]
    matrix = (1 - share)[:, :, None] * torch.eye(3, dtype=picture.dtype, device=picture.device) + spread[:, :, None] * luma
    shift = share * (light + dark) / 2
    return (matrix @ picture.reshape(len(picture), 3, -1) + shift[:, :, None]).view_as(picture)


class StyledConv(nn.Module):
    """γ · norm(conv(x)) + β, with reflection padding. γ and β are read from the style's numbers: γ [C] from `start` on, then β
    [C]. The normalisation is over each channel of each row; a bias would have no effect before it."""

    def __init__(self, in_channels: int, channels: int, kernel: int, start: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, bias=False)
        self.pad = (kernel // 2,) * 4
        self.start, self.channels = start, channels

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        h = F.instance_norm(self.conv(F.pad(x, self.pad, mode="reflect")), eps=EPS)
        middle, end = self.start + self.channels, self.start + 2 * self.channels
        gamma, beta = style[:, self.start : middle, None, None], style[:, middle:end, None, None]  # [B, C, 1, 1] each
        return h * gamma + beta


class StyledBlock(nn.Module):
    """x + styled(relu(styled(x))): two 3x3 convolutions, nothing after the sum."""

    def __init__(self, channels: int, start: int) -> None:
        super().__init__()
        self.conv1 = StyledConv(channels, channels, 3, start)
        self.conv2 = StyledConv(channels, channels, 3, start + 2 * channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        h: Tensor = self.conv2(F.relu(self.conv1(x, style)), style)
        return x + h


class StyleTable:
    """A network with a table of styles, `styles` [S, N], and names of mixtures of them in its configuration's `looks`.

    Where the configuration has `toned`, the table is [S, N + TONE]: each style has a tone behind its numbers.
    """

    styles: Tensor
    style_numbers: int
    config: Any

    def style(self, look: str | Mapping[int, float]) -> Tensor:
        """The numbers [N] of a look by its name, or of a mixture {row of `styles`: share}. Raises ValueError for unknown
        ones."""
        shares = self._named(look) if isinstance(look, str) else dict(look)
        known = len(self.styles)
        wrong = [row for row in shares if not 0 <= row < known]
        if wrong or not shares:
            raise ValueError(f"style: rows 0 to {known - 1} can be mixed, at least one; got {sorted(shares)}")
        return torch.stack([share * self.styles[row] for row, share in shares.items()]).sum(0)

    def paint_packed(self, packed: Tensor, style: Tensor) -> Tensor:
        """Paints packed pictures [B, 12, H/2, W/2], the `pixel_unshuffle` by 2 of pictures in [-1, 1], to the same."""
        painted: Tensor = self(F.pixel_shuffle(packed, 2), style)  # type: ignore[operator]
        return F.pixel_unshuffle(painted, 2)

    def _finished(self, picture: Tensor, style: Tensor) -> Tensor:
        """The painted picture in the style's tone, if it has one."""
        return picture if style.shape[1] == self.style_numbers else toned(picture, style[:, self.style_numbers :])

    def _named(self, look: str) -> dict[int, float]:
        looks = self.config["looks"] or {}
        if look not in looks:
            raise ValueError(f"look: {look!r} is not one of {', '.join(looks)}")
        return {int(row): share for row, share in looks[look].items()}


class Painter(StyleTable, ModelMixin, ConfigMixin):
    """Pictures and styles to painted pictures.

    Three convolutions to a quarter of the size, residual blocks, two nearest-neighbour doublings with convolutions, and a 9x9
    convolution to RGB before a sigmoid. `styles` [S, N] are the numbers of its own styles, [S, N + TONE] where `toned`. `looks`
    in the configuration are names of mixtures of them: name -> {row of `styles`: share}.
    """

    styles: Tensor

    @register_to_config
    def __init__(
        self,
        channels: int = 32,
        blocks: int = 6,
        up_channels: Sequence[int] = (8, 4),
        num_styles: int = 26,
        looks: Mapping[str, Mapping[str, float]] | None = None,
        toned: bool = False,
    ) -> None:
        super().__init__()
        self.style_numbers = 0
        self.down = nn.ModuleList(
            [self._conv(3, channels, 9), self._conv(channels, channels, 3, 2), self._conv(channels, channels, 3, 2)]
        )
        self.middle = nn.ModuleList(self._block(channels) for _ in range(blocks))
        widths = [channels, *up_channels]
        self.up = nn.ModuleList(self._conv(a, b, 3) for a, b in pairwise(widths))
        self.out = self._conv(widths[-1], 3, 9)
        self.register_buffer("styles", torch.zeros(num_styles, self.style_numbers + (TONE if toned else 0)))

    def _conv(self, in_channels: int, channels: int, kernel: int, stride: int = 1) -> StyledConv:
        start = self.style_numbers
        self.style_numbers += 2 * channels
        return StyledConv(in_channels, channels, kernel, start, stride)

    def _block(self, channels: int) -> StyledBlock:
        start = self.style_numbers
        self.style_numbers += 4 * channels
        return StyledBlock(channels, start)

    def forward(self, picture: Tensor, style: Tensor) -> Tensor:
        """Paints pictures.

        picture: [B, 3, H, W], nominally in [-1, 1] as a decoder returns it (clamped), H and W multiples of 8.
        style: [B, N] or [1, N], N = `style_numbers`, or with a tone N + TONE; each row is painted in its own style. Returns
        [B, 3, H, W] in [-1, 1].
        """
        h = picture.clamp(-1, 1) / 2 + 0.5
        for conv in self.down:
            h = F.relu(conv(h, style))
        for block in self.middle:
            h = block(h, style)
        for conv in self.up:
            h = F.relu(conv(F.interpolate(h, scale_factor=2.0, mode="nearest"), style))
        return self._finished(self.out(h, style).sigmoid() * 2 - 1, style)
