"""A picture to the numbers of a painter's style, at once: known styles, mixed by how alike their texture is, in its colours.

The picture's colours are set aside first, so that a texture is found whatever it is painted in: each channel's logits get mean 0
and deviation 1. What its channels of features are like then (means and deviations) is compared with what known styles paint.
The last six numbers of a style are the scales and shifts of three channels before a sigmoid. Where the painter normalises these
channels, they are the means and deviations of the picture's logits. Where it does not (`Ends`), what the style draws there is
measured first; it ends in a hyperbolic tangent, whose argument is half of a logit. Either way colour needs no search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from pipelines.networks.texture import BLOCKS, Texture

CUT = 0.02
"""Share of the range in which logits of black and white are cut."""


Ends = Callable[[Tensor], Tensor]
"""The numbers [N] of a style to the means and deviations [6] of what it draws before its last scales and shifts."""


class StyleReader(ModelMixin, ConfigMixin):
    """Pictures [1, 3, H, W] in [-1, 1] to the numbers [N] of a style of the painter whose fingerprint is in the configuration.

    known: how many styles it mixes. numbers: N of each. sharpness: how much the most alike one counts before the others.
    """

    known_keys: Tensor
    scale: Tensor
    known_numbers: Tensor

    @register_to_config
    def __init__(
        self,
        painter: str = "",
        known: int = 1,
        numbers: int = 990,
        sharpness: float = 1.0,
        widths: Sequence[Sequence[int]] = BLOCKS,
    ) -> None:
        super().__init__()
        self.texture = Texture(widths)
        size = 2 * sum(block[-1] for block in widths)
        self.register_buffer("known_keys", torch.zeros(known, size))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("known_numbers", torch.zeros(known, numbers))

    def forward(self, picture: Tensor, ends: Ends | None = None) -> Tensor:
        """ends: of a painter that ends in a hyperbolic tangent and does not normalise its last channels."""
        distance = ((self.key(picture) - self.known_keys) / self.scale).square().mean(1)  # [K]
        weights = (-self.config["sharpness"] * distance / distance.min().clamp_min(1e-6)).softmax(0)
        numbers = weights @ self.known_numbers
        return coloured(numbers, picture, None if ends is None else ends(numbers))

    def key(self, picture: Tensor) -> Tensor:
        """What its texture is like, whatever its colours: [2 · (channels of all blocks)]."""
        features = [feature[0].flatten(1) for feature in self.texture(colourless(picture))]
        return torch.cat([part for feature in features for part in (feature.mean(1), feature.std(1))]).log1p()


def colourless(picture: Tensor) -> Tensor:
    """The picture [B, 3, H, W] with logits of mean 0 and deviation 1 in each channel, in [-1, 1]."""
    logits = _logits(picture)
    mean, deviation = logits.mean((2, 3), keepdim=True), logits.std((2, 3), keepdim=True)
    return ((logits - mean) / deviation.clamp_min(0.05)).sigmoid() * 2 - 1


def coloured(numbers: Tensor, picture: Tensor, drawn: Tensor | None = None) -> Tensor:
    """The numbers [N], with those of the last layer (γ, β of its three channels) such that it paints in the picture's colours.

    drawn: what `Ends` gives; without it the channels have mean 0 and deviation 1, and a sigmoid follows.
    """
    logits = _logits(picture)[0].flatten(1)
    turned = numbers[-6:-3].sign()  # a channel that the style paints as a negative stays one
    gamma, beta = turned * logits.std(1).clamp_min(0.05), logits.mean(1)
    if drawn is not None:
        mean, deviation = drawn.split(3)
        gamma = gamma / 2 / deviation.clamp_min(1e-3)
        beta = beta / 2 - gamma * mean
    return torch.cat([numbers[:-6], gamma, beta])


def _logits(picture: Tensor) -> Tensor:
    return torch.logit(((picture + 1) / 2).clamp(CUT, 1 - CUT))
