"""Measures a picture's detail of each scale locally, and scales one picture's detail to the strength of another's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from training import filters

SCALES = (1.0, 2.0, 4.0)  # pixels: sigmas of the blurs between which a band lies
WINDOW = 24  # pixels: side of the windows in which an amount is taken, every third of it
LEAST, MOST = 0.4, 3.0  # times by which a band changes
COLOURED = 1.3  # the most for differences of colour: half of the model's are noise
FLAT = 1e-5  # an invisible variance, for pictures in [-1, 1]


def bands(x: Tensor) -> tuple[list[Tensor], Tensor]:
    """The detail of pictures (N, 3, H, W) between blurs, finest first, and the result of the last blur.

    As in Burt & Adelson 1983, at full size. The sum of all is x.
    """
    found = []
    for sigma in SCALES:
        coarser = filters.blur(x, sigma)
        found.append(x - coarser)
        x = coarser
    return found, x


def strength(band: Tensor) -> Tensor:
    """Root mean square of a band (N, C, H, W) over channels and around every pixel, (N, 1, H, W)."""
    power = band.square().mean(1, keepdim=True)
    step = WINDOW // 3
    around = F.avg_pool2d(power, WINDOW, step, padding=step, count_include_pad=False) + FLAT
    return F.interpolate(around, size=band.shape[-2:], mode="bilinear", align_corners=False).sqrt()


def with_strength_of(own: Tensor, real: Tensor, share: float = 1.0) -> Tensor:
    """Pictures `own` (N, 3, H, W) in [-1, 1] with their detail scaled, band by band, to the local strength of `real`.

    Regression draws uncertain lines too faintly: as the mean of possible lines. This target corrects the strength of a line and
    not its position. share: 0..1 of the way.
    """
    (mine, rest), (theirs, _) = bands(own), bands(real)
    for band, other in zip(mine, theirs, strict=True):
        light, meant = filters.luminance(band), filters.luminance(other)
        rest = rest + _scaled(light, meant, MOST, share) + _scaled(band - light, other - meant, COLOURED, share)
    return rest.clamp(-1, 1)


def _scaled(band: Tensor, other: Tensor, most: float, share: float) -> Tensor:
    gain = (strength(other) / strength(band)).clamp(LEAST, most)
    return (1 + share * (gain - 1)) * band
