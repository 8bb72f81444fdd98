"""The pocket model's autoencoder: pictures to latents at one eighth of their size, and back.

Knows nothing of training, streams or prompts. It answers the calls that diffusers' image-to-image pipeline makes of an
`AutoencoderKL` (`encode(x).latents`, `decode(z)`, `config.scaling_factor`), so the same weights run there unchanged.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), 3x3, without normalisation: a picture's contrast must pass through unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(x))
        return x + self.conv2(F.silu(h))


def stage(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*[ResidualBlock(channels) for _ in range(blocks)])


class PocketAutoencoder(ModelMixin, ConfigMixin):
    def __init__(self): ...
