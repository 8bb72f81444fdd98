"""Pixels to latents and back as traceable modules, so that conversion and layout are part of the static graph.

Any autoencoder with diffusers' interface fits: AutoencoderKL, AutoencoderTiny, and our own. Its latents z are normalised for
the UNet: (z − mean − shift)·scale/std, with the values of the autoencoder's configuration. Most have a scale only.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.pixels import enter, enter_reference, leave, leave_reference


class _Pixels(nn.Module):
    """Base of both directions. upcast: the autoencoder overflows in float16, so a float16 backend must compute it in float32.
    kernels: whether a kernel may convert the pixels, set by a backend. lane: its stage of a step (one of device.LANES)."""

    lane: str

    scale: Tensor
    shift: Tensor

    def __init__(self, vae: nn.Module, upcast: bool = False) -> None:
        super().__init__()
        self.vae: Any = vae
        self.upcast = upcast
        self.kernels = False
        config: Any = vae.config
        mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        scale = torch.tensor(1.0 if std is None else std).reciprocal() * config.scaling_factor
        shift = torch.tensor(0.0 if mean is None else mean) + (getattr(config, "shift_factor", None) or 0.0)
        self.shifts = bool(shift.any())
        self.register_buffer("scale", scale.reshape(-1, 1, 1), persistent=False)  # [C or 1, 1, 1]
        self.register_buffer("shift", shift.reshape(-1, 1, 1), persistent=False)


class EncodePixels(_Pixels):
    """uint8 pictures [B, H, W, 3] to float latents [B, C, H/8, W/8], normalised for the UNet."""

    lane = "encode"

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        dtype = next(self.vae.parameters()).dtype
        x = (enter if self.kernels else enter_reference)(pixels, dtype)
        z = self._latents(self.vae.encode(x))
        return ((z - self.shift if self.shifts else z) * self.scale,)

    @staticmethod
    def _latents(encoded: Any) -> Tensor:
        # The mode of a Gaussian posterior: a random sample would make a still picture flicker.
        return encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()


class EncodeMasked(EncodePixels):
    """uint8 pictures [B, H, W, 3], grey where `keep`, uint8 [B, H, W], is 0, to float latents [B, C, H/8, W/8], normalised for
    the UNet. keep is 1 elsewhere."""

    def forward(self, pixels: Tensor, keep: Tensor) -> tuple[Tensor]:  # type: ignore[override]
        dtype = next(self.vae.parameters()).dtype
        x = (enter if self.kernels else enter_reference)(pixels, dtype) * keep[:, None].to(dtype)
        z = self._latents(self.vae.encode(x))
        return ((z - self.shift if self.shifts else z) * self.scale,)


class DecodePixels(_Pixels):
    """Float latents [B, C, h, w] to uint8 pictures [B, 8h, 8w, 3]."""

    lane = "decode"

    def forward(self, latents: Tensor) -> tuple[Tensor]:
        return (self._pixels(self._picture(latents)),)

    def _picture(self, latents: Tensor) -> Tensor:
        """The decoder's picture [B, 3, 8h, 8w] from -1 to 1."""
        x: Tensor = self.vae.decode(self._denormalised(latents), return_dict=False)[0]
        return x

    def _denormalised(self, latents: Tensor) -> Tensor:
        """The autoencoder's own latents."""
        z = latents.to(next(self.vae.parameters()).dtype) / self.scale
        return z + self.shift if self.shifts else z

    def _pixels(self, x: Tensor) -> Tensor:
        return (leave if self.kernels else leave_reference)(x)


def softened(packed: Tensor, softness: Tensor) -> Tensor:
    """Packed pictures [B, 12, H/2, W/2] (`pixel_unshuffle` by 2; H and W multiples of 4) at a level of blur [B]: 0 is sharp; 1, 2
    and 3 have standard deviations of 1.2, 2.7 and 4.8 pixels, with steps between them.

    A pyramid (Burt and Adelson 1983) with filters wide enough that halving leaves hardly a grid. Nothing is computed at full
    size.
    """
    one, two, three = ((softness - level).clamp(0.0, 1.0).reshape(-1, 1, 1, 1) for level in range(3))
    half = _halved(packed)
    quarter = _halved(F.pixel_unshuffle(half, 2))
    quarter = torch.lerp(quarter, _filtered(quarter, (1.0, 4.0, 6.0, 4.0, 1.0)), three)
    half = torch.lerp(half, F.pixel_shuffle(_doubled(quarter), 2), two)
    return torch.lerp(packed, _doubled(half), one)


def _halved(packed: Tensor) -> Tensor:
    """[B, 12, h, w] to pictures [B, 3, h, w] at half of the size, through the taps 1 3 3 1; borders continue."""
    seen = ((0.0, 0.375, 0.125), (0.125, 0.375, 0.0))  # [phase, place before, here and behind]
    taps = torch.tensor(seen, dtype=packed.dtype, device=packed.device)
    kernel = torch.einsum("at,bu->abtu", taps, taps).reshape(1, 4, 3, 3).repeat(3, 1, 1, 1)
    return F.conv2d(F.pad(packed, (1,) * 4, mode="replicate"), kernel, groups=3)


def _filtered(x: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Across and down by the same taps; borders continue."""
    row = torch.tensor(taps, dtype=x.dtype, device=x.device) / sum(taps)
    channels, side = x.shape[1], len(taps)
    kernel = (row[:, None] * row).expand(channels, 1, side, side)
    return F.conv2d(F.pad(x, ((side - 1) // 2,) * 4, mode="replicate"), kernel, groups=channels)


def _doubled(x: Tensor) -> Tensor:
    """[B, 3, h, w] to packed pictures [B, 12, h, w] of twice the size, bilinear."""
    phases = torch.tensor(((0.25, 0.75, 0.0), (0.0, 0.75, 0.25)), dtype=x.dtype, device=x.device)
    kernel = torch.einsum("at,bu->abtu", phases, phases).reshape(4, 1, 3, 3).repeat(3, 1, 1, 1)
    return F.conv2d(F.pad(x, (1,) * 4, mode="replicate"), kernel, groups=3)


class PaintPixels(DecodePixels):
    """Float latents [B, C, h, w], a style's numbers [B, N], the amount of paint [B] from 0 to 1 and the softness [B] from 0 to 3
    of what the painter sees to uint8 pictures [B, 8h, 8w, 3]: decoder and painter in one graph."""

    def __init__(self, vae: nn.Module, painter: nn.Module, upcast: bool = False) -> None:
        super().__init__(vae, upcast)
        self.painter: Any = painter

    def forward(  # type: ignore[override]
        self, latents: Tensor, style: Tensor, amount: Tensor, softness: Tensor
    ) -> tuple[Tensor]:
        return (self._mixed(latents, style, amount, softness),)

    def _mixed(self, latents: Tensor, style: Tensor, amount: Tensor, softness: Tensor, **options: Any) -> Tensor:
        """The painted pictures, uint8 [B, 8h, 8w, 3]. options: of the painter's `paint_packed`."""
        packed = self._packed(latents).clamp(-1.0, 1.0)
        seen = softened(packed, softness.to(packed.dtype))
        painted = self.painter.paint_packed(seen, style.to(packed.dtype), **options)
        mixed = torch.lerp(packed, painted, amount.to(packed.dtype).reshape(-1, 1, 1, 1))
        return self._pixels(F.pixel_shuffle(mixed, 2))

    def _packed(self, latents: Tensor) -> Tensor:
        """The decoder's picture from -1 to 1, packed: [B, 12, 4h, 4w]."""
        if not hasattr(self.vae, "decode_packed"):
            return F.pixel_unshuffle(self._picture(latents), 2)
        packed: Tensor = self.vae.decode_packed(self._denormalised(latents))
        return packed
