"""The autoencoder of the pocket model: a cosine transform to latents at one eighth of a picture's size, and back.

Independent of training, streams and prompts. It has the interface of `AutoencoderKL` that diffusers' image-to-image pipeline
uses (`encode(x).latents`, `decode(z)`, `config.scaling_factor`), so the same weights run there unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

BLOCK = 8
"""Pixels along the side of the block that becomes one latent pixel."""

QUARTER = 4
"""Pixels along the side of what the decoder draws at one place."""

Order = list[int] | slice
NATURAL = slice(None)
PACKED = [16 * c + 4 * (2 * a + b) + 2 * p + q for c in range(3) for b in (0, 1) for q in (0, 1) for a in (0, 1) for p in (0, 1)]
"""Orders of 4x4 pixels as channels: that of `pixel_shuffle` by 4, and that in which a shuffle by 2 leaves packed pictures."""


def cosine_basis(luma: int, chroma: int) -> Tensor:
    """(luma + 2 chroma, 3, 8, 8), orthonormal: the lowest frequencies of an 8x8 cosine transform of the luma and of two colour
    differences, lowest first.
    """
    place = torch.arange(BLOCK, dtype=torch.float64)
    rows = torch.cos(math.pi / BLOCK * (place + 0.5)[None] * place[:, None])
    rows = rows * torch.where(place == 0, 1 / BLOCK, 2 / BLOCK).sqrt()[:, None]
    frequencies = sorted(((u, v) for u in range(BLOCK) for v in range(BLOCK)), key=lambda f: (f[0] + f[1], max(f), f))
    planes = torch.tensor([[1.0, 1.0, 1.0], [0.5, -1.0, 0.5], [0.5, 0.0, -0.5]], dtype=torch.float64)
    basis = [
        (plane / plane.norm())[:, None, None] * torch.outer(rows[u], rows[v])[None]
        for plane, count in zip(planes, (luma, chroma, chroma), strict=True)
        for u, v in frequencies[:count]
    ]
    return torch.stack(basis).float()


class ResidualBlock(nn.Module):
    """relu(x + conv(relu(conv(x)))), both 3x3 and without normalisation, so contrast passes through unchanged.

    OpenVINO fuses a ReLU after the convolution and after the sum into the convolution. With SiLU before each convolution the
    same network took 16.1 ms instead of 9.9 ms (encode and decode, 512x512, bf16, two busy cores).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))


def _stage(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))


class Decoder(nn.Module):
    """Latents (N, C, H/8, W/8) to the detail of pictures that the inverse transform lacks, (N, 48, H/4, W/4): each 4x4 pixels as
    channels. Works at an eighth of the size and at a quarter.
    """

    def __init__(self, latent_channels: int, channels: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        quarter, eighth = channels
        self.conv_in = nn.Conv2d(latent_channels, eighth, 3, padding=1)
        self.eighth = _stage(eighth, blocks[1])
        self.up = nn.Conv2d(eighth, 4 * quarter, 1)
        self.unfold2 = nn.PixelShuffle(2)
        self.quarter = _stage(quarter, blocks[0])
        self.conv_out = nn.Conv2d(quarter, 3 * QUARTER**2, 3, padding=1)

    def forward(self, z: Tensor, order: Order = NATURAL) -> Tensor:
        h = self.eighth(F.relu(self.conv_in(z)))
        h = self.quarter(F.relu(self.unfold2(self.up(h))))
        last = self.conv_out
        assert last.bias is not None
        return F.conv2d(h, last.weight[order], last.bias[order], padding=1)


class CosineAutoencoder(ModelMixin, ConfigMixin):
    """Deterministic autoencoder, factor 8: 3 x H x W pixels become C x H/8 x W/8 latents.

    The encoder is linear: the lowest luma and chroma frequencies of an 8x8 cosine transform (26 + 2 x 5 of 192 numbers, 5.3 to
    one). So equal changes of the input are equal changes of the latent at every position, and sensor noise is never amplified.
    It takes 0.9 ms, where convolutions took 4.2 ms (512x512, bf16, two cores). The decoder adds the detail that the inverse
    transform lacks: sharp edges without block borders.

    Latents are shifted and scaled per channel by `latent_mean` and `latent_std` (set by `training.autoencoder`). So they have
    zero mean and about unit variance, coarse ones more, and `scaling_factor` is 1. Heights and widths are multiples of 8.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        luma_channels: int = 26,
        chroma_channels: int = 5,
        decoder_channels: Sequence[int] = (32, 128),
        decoder_blocks: Sequence[int] = (2, 1),
        # Read by diffusers' pipelines: the latent's channels, and the factor as 2 ** (len(block_out_channels) - 1).
        latent_channels: int = 36,
        block_out_channels: Sequence[int] = (32, 32, 32, 128),
        scaling_factor: float = 1.0,
        force_upcast: bool = False,
    ) -> None:
        super().__init__()
        if (in_channels, out_channels) != (3, 3) or len(block_out_channels) != 4:
            raise ValueError("CosineAutoencoder maps RGB to RGB at a factor of 8: 3 channels in and out, 4 levels")
        if latent_channels != luma_channels + 2 * chroma_channels:
            raise ValueError(f"{luma_channels} luma and 2 x {chroma_channels} chroma channels are not {latent_channels}")
        basis = cosine_basis(luma_channels, chroma_channels)
        self.analysis = nn.Conv2d(3, latent_channels, BLOCK, stride=BLOCK, bias=False)
        self.analysis.weight.data.copy_(basis)
        self.decoder = Decoder(latent_channels, decoder_channels, decoder_blocks)
        nn.init.zeros_(self.decoder.conv_out.weight)  # zero output before training
        nn.init.zeros_(self.decoder.conv_out.bias)  # type: ignore[arg-type]
        self.synthesis = nn.Conv2d(latent_channels, 3 * BLOCK * BLOCK, 1, bias=False)
        self.synthesis.weight.data.copy_(basis.flatten(1).t()[..., None, None])
        self.register_buffer("latent_mean", torch.zeros(1, latent_channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(1, latent_channels, 1, 1))

    def encode(self, x: Tensor, return_dict: bool = True) -> Any:
        """Encodes pictures.

        x: (N, 3, H, W) in [-1, 1], H and W multiples of 8. Returns an object whose `latents` is (N, C, H/8, W/8); with
        `return_dict=False` the tuple `(latents,)`.
        """
        z = (self.analysis(x) - self.latent_mean) / self.latent_std
        return AutoencoderTinyOutput(latents=z) if return_dict else (z,)

    def decode(self, z: Tensor, generator: torch.Generator | None = None, return_dict: bool = True) -> Any:
        """Decodes latents.

        z: (N, C, h, w) as `encode` gives them. Returns an object whose `sample` is (N, 3, 8h, 8w), nominally in
        [-1, 1] but not clamped; with `return_dict=False` the tuple `(sample,)`. `generator` is ignored: decoding is
        deterministic, the argument exists because diffusers' pipelines pass it.
        """
        x = F.pixel_shuffle(self._quarters(z), QUARTER)
        return DecoderOutput(sample=x) if return_dict else (x,)

    def decode_packed(self, z: Tensor) -> Tensor:
        """What `decode` gives, packed: (N, 12, 4h, 4w), the `pixel_unshuffle` by 2 of the pictures, without their full size."""
        return F.pixel_shuffle(self._quarters(z, PACKED), 2)

    def _quarters(self, z: Tensor, order: Order = NATURAL) -> Tensor:
        """(N, 48, 2h, 2w): each 4x4 pixels as channels. The inverse transform is computed there, too: at full size the sum alone
        took 2 of 15 ms (512x512, bf16, two cores). Weights are put in order, not their result: that took 3 ms."""
        channels = self.synthesis.in_channels
        weight = self.synthesis.weight.view(3, 2, QUARTER, 2, QUARTER, channels).permute(0, 2, 4, 1, 3, 5)
        weight = weight.reshape(-1, 4, channels)[order].reshape(-1, channels, 1, 1)
        linear = F.conv2d(z * self.latent_std + self.latent_mean, weight)
        x: Tensor = self.decoder(z, order) + F.pixel_shuffle(linear, 2)
        return x

    def synthesise(self, z: Tensor) -> Tensor:
        """The linear part of decoding alone: (N, C, h, w) to (N, 3, 8h, 8w)."""
        return F.pixel_shuffle(self.synthesis(z * self.latent_std + self.latent_mean), BLOCK)

    def forward(self, x: Tensor) -> Tensor:
        """Round trip: (N, 3, H, W) in [-1, 1] to a reconstruction of the same shape."""
        return self.decode(self.encode(x).latents, return_dict=False)[0]
