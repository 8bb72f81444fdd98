"""Pixels to latents and back as traceable modules, so that conversion and layout are part of the static graph.

Any autoencoder of the diffusers kind fits: AutoencoderKL, AutoencoderTiny, PocketAutoencoder.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class EncodePixels(nn.Module):
    """uint8 pictures [B, H, W, 3] to float latents [B, C, H/8, W/8], scaled as the UNet expects them."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae: Any = vae

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        dtype = next(self.vae.parameters()).dtype
        x = pixels.permute(0, 3, 1, 2).to(dtype) / 127.5 - 1.0
        return (self._latents(self.vae.encode(x)) * self.vae.config.scaling_factor,)

    @staticmethod
    def _latents(encoded: Any) -> Tensor:
        # A Gaussian posterior is read at its mode: a draw would make a still picture flicker.
        return encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()


class DecodePixels(nn.Module):
    """Float latents [B, C, h, w] to uint8 pictures [B, 8h, 8w, 3]."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae: Any = vae

    def forward(self, latents: Tensor) -> tuple[Tensor]:
        dtype = next(self.vae.parameters()).dtype
        x = self.vae.decode(latents.to(dtype) / self.vae.config.scaling_factor, return_dict=False)[0]
        x = ((x.float() + 1.0) * 127.5).round().clamp(0.0, 255.0)
        return (x.permute(0, 2, 3, 1).to(torch.uint8),)
