"""The autoencoder of the shipped pocket weights: pictures to latents at one eighth of their size, and back.

Knows nothing of training, streams or prompts. It answers the calls that diffusers' image-to-image pipeline makes of an
`AutoencoderKL` (`encode(x).latents`, `decode(z)`, `config.scaling_factor`), so the same weights run there unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """relu(x + conv(relu(conv(x)))), both 3x3 and without normalisation, so contrast passes through unchanged.

    ReLU after the convolution and after the sum is what OpenVINO fuses into the convolution itself: with SiLU before
    each convolution the same network took 16.1 ms instead of 9.9 ms (encode and decode, 512x512, bf16, two busy cores).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))


def _stage(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))


class Encoder(nn.Module):
    """Picture (N, 3, H, W) to raw latents (N, C, H/8, W/8); the first step folds 4x4 pixels into 48 channels."""

    def __init__(self, latent_channels: int, channels: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        quarter, eighth = channels
        self.fold = nn.PixelUnshuffle(4)
        self.conv_in = nn.Conv2d(3 * 4 * 4, quarter, 3, padding=1)
        self.quarter = _stage(quarter, blocks[0])
        self.down = nn.Conv2d(quarter, eighth, 2, stride=2)
        self.eighth = _stage(eighth, blocks[1])
        self.conv_out = nn.Conv2d(eighth, latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.quarter(F.relu(self.conv_in(self.fold(x))))
        h = self.eighth(F.relu(self.down(h)))
        z: Tensor = self.conv_out(h)
        return z


class Decoder(nn.Module):
    """Raw latents (N, C, H/8, W/8) to a picture (N, 3, H, W); the mirror of `Encoder` with depth-to-space."""

    def __init__(self, latent_channels: int, channels: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        quarter, eighth = channels
        self.conv_in = nn.Conv2d(latent_channels, eighth, 3, padding=1)
        self.eighth = _stage(eighth, blocks[1])
        self.up = nn.Conv2d(eighth, 4 * quarter, 1)
        self.unfold2 = nn.PixelShuffle(2)
        self.quarter = _stage(quarter, blocks[0])
        self.conv_out = nn.Conv2d(quarter, 3 * 4 * 4, 3, padding=1)
        self.unfold4 = nn.PixelShuffle(4)

    def forward(self, z: Tensor) -> Tensor:
        h = self.eighth(F.relu(self.conv_in(z)))
        h = self.quarter(F.relu(self.unfold2(self.up(h))))
        x: Tensor = self.unfold4(self.conv_out(h))
        return x


class PocketAutoencoder(ModelMixin, ConfigMixin):
    """Deterministic autoencoder, factor 8: 3 x H x W pixels become 16 x H/8 x W/8 latents (12 numbers become one).

    Latents are bounded by `3 tanh(raw / 3)` and then shifted and scaled per channel by `latent_mean` and `latent_std`
    (measured over the training pictures when the weights are exported), so that they are about zero mean and unit
    standard deviation and `scaling_factor` is 1. Heights and widths are multiples of 8.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        latent_channels: int = 16,
        encoder_channels: Sequence[int] = (48, 96),
        encoder_blocks: Sequence[int] = (2, 3),
        decoder_channels: Sequence[int] = (48, 128),
        decoder_blocks: Sequence[int] = (2, 3),
        # Read by diffusers' pipelines: the factor is 2 ** (len(block_out_channels) - 1).
        block_out_channels: Sequence[int] = (48, 48, 48, 128),
        scaling_factor: float = 1.0,
        force_upcast: bool = False,
    ) -> None:
        super().__init__()
        if (in_channels, out_channels) != (3, 3) or len(block_out_channels) != 4:
            raise ValueError("PocketAutoencoder maps RGB to RGB at a factor of 8: 3 channels in and out, 4 levels")
        self.encoder = Encoder(latent_channels, encoder_channels, encoder_blocks)
        self.decoder = Decoder(latent_channels, decoder_channels, decoder_blocks)
        self.register_buffer("latent_mean", torch.zeros(1, latent_channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(1, latent_channels, 1, 1))

    def encode(self, x: Tensor, return_dict: bool = True) -> Any:
        """Encodes pictures.

        x: (N, 3, H, W) in [-1, 1], H and W multiples of 8. Returns an object whose `latents` is (N, 16, H/8, W/8),
        about zero mean and unit standard deviation; with `return_dict=False` the tuple `(latents,)`.
        """
        raw = self.encoder(x)
        z = (3.0 * torch.tanh(raw / 3.0) - self.latent_mean) / self.latent_std
        return AutoencoderTinyOutput(latents=z) if return_dict else (z,)

    def decode(self, z: Tensor, generator: torch.Generator | None = None, return_dict: bool = True) -> Any:
        """Decodes latents.

        z: (N, 16, h, w) as `encode` gives them. Returns an object whose `sample` is (N, 3, 8h, 8w), nominally in
        [-1, 1] but not clamped; with `return_dict=False` the tuple `(sample,)`. `generator` is ignored: decoding is
        deterministic, the argument exists because diffusers' pipelines pass it.
        """
        x = self.decoder(z * self.latent_std + self.latent_mean)
        return DecoderOutput(sample=x) if return_dict else (x,)

    def forward(self, x: Tensor) -> Tensor:
        """Round trip: (N, 3, H, W) in [-1, 1] to a reconstruction of the same shape."""
        return self.decode(self.encode(x).latents, return_dict=False)[0]
