"""A painter of our own: most work at a quarter of the picture's size, few channels at full size, no fixed lattice.

Like `pipelines.networks.painter` a style is a vector of numbers (γ, β of every channel). What differs: a pixel unshuffle
instead of wide convolutions at full size; bilinear doublings and convolutions instead of a pixel shuffle, which drew periods of
2 and 4 pixels; the picture itself joins at full size, so edges stay where they are; the full-size end has no statistics, which
would cost most there and would take the light of a photograph away, so one style can be the photograph itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

REDUCTION = 4
"""A picture's side over the trunk's."""

EPS = 1e-5


class Styled(nn.Module):
    """γ · conv(x) + β, with the convolution's output normalised over each channel of each row before, or not."""

    def __init__(self, in_channels: int, channels: int, start: int, normalised: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1, padding_mode="reflect", bias=False)
        self.start, self.channels, self.normalised = start, channels, normalised

    def forward(self, x: Tensor, style: Tensor, kept: bool = False, folded: Tensor | None = None) -> Tensor:
        """kept: without the normalisation, as the style holds its statistics. folded [B, N]: where such a style is written."""
        h = self.conv(x)
        middle, end = self.start + self.channels, self.start + 2 * self.channels
        gamma, beta = style[:, self.start : middle, None, None], style[:, middle:end, None, None]  # [B, C, 1, 1] each
        if self.normalised and not kept:
            if folded is not None:
                variance, mean = torch.var_mean(h.float(), dim=(2, 3), keepdim=True, unbiased=False)
                scale = gamma * (variance + EPS).rsqrt()
                folded[:, self.start : middle] = scale.flatten(1)
                folded[:, middle:end] = (beta - scale * mean).flatten(1)
            h = F.instance_norm(h, eps=EPS)
        return h * gamma + beta


class TrunkPainter(ModelMixin, ConfigMixin):
    """Pictures and styles to painted pictures; `styles` [S, N] are learnt, `looks` in the configuration are their names."""

    styles: nn.Parameter

    @register_to_config
    def __init__(
        self, channels: int = 48, num_blocks: int = 5, half_channels: int = 32, full_channels: int = 12, looks: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.style_numbers = 0
        self.from_picture = self._styled(3 * REDUCTION**2, channels)
        self.middle = nn.ModuleList(self._styled(channels, channels) for _ in range(2 * num_blocks))
        self.to_half = self._styled(channels, half_channels)
        self.to_full = self._styled(half_channels + 3, full_channels, normalised=False)
        self.to_picture = self._styled(full_channels, 3, normalised=False)
        self.styles = nn.Parameter(torch.zeros(len(looks), self.style_numbers))
        for layer in self._layers():
            self.styles.data[:, layer.start : layer.start + layer.channels] = 1.0

    def _styled(self, in_channels: int, channels: int, normalised: bool = True) -> Styled:
        start = self.style_numbers
        self.style_numbers += 2 * channels
        return Styled(in_channels, channels, start, normalised)

    def _layers(self) -> list[Styled]:
        return [module for module in self.modules() if isinstance(module, Styled)]

    def forward(self, picture: Tensor, style: Tensor, kept: bool = False, folded: Tensor | None = None) -> Tensor:
        """Paints pictures.

        picture: [B, 3, H, W], nominally in [-1, 1] (beyond it is cut), H and W multiples of 4, at least 8. style: [B, N]
        or [1, N]. kept: the style is one of `fold`, so nothing is measured. folded: see `fold`. Returns [B, 3, H, W] in [-1, 1].
        """
        picture = picture.clamp(-1, 1)
        h = F.relu(self.from_picture(F.pixel_unshuffle(picture, REDUCTION), style, kept, folded))
        for first, second in zip(self.middle[::2], self.middle[1::2], strict=True):
            h = h + second(F.relu(first(h, style, kept, folded)), style, kept, folded)
        h = F.relu(self.to_half(_double(h), style, kept, folded))
        h = F.relu(self.to_full(torch.cat([_double(h), picture], dim=1), style))
        return torch.tanh(self.to_picture(h, style))

    def fold(self, picture: Tensor, style: Tensor) -> Tensor:
        """The style [B, N] that paints without statistics as `style` paints this picture with them: γ/σ and β − γμ/σ.

        A stream may keep it (a moving average of it, too) over frames of one scene: the normalisations then cost nothing.
        """
        folded = style.expand(len(picture), -1).clone()
        self(picture, style, folded=folded)
        return folded

    def style(self, look: str) -> Tensor:
        """The numbers [N] of a look. Raises ValueError for an unknown one."""
        looks = list(self.config["looks"])
        if look not in looks:
            raise ValueError(f"look: {look!r} is none of {', '.join(looks)}")
        return self.styles[looks.index(look)]


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
