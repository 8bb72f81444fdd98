"""Decoder and painter for windows of a picture: the whole one keeps the painter's statistics, a window takes them."""

from __future__ import annotations

from torch import Tensor

from pipelines.networks.pixels import PaintPixels


class PaintKeeping(PaintPixels):
    """As PaintPixels, with a TrunkPainter; also the style [B, N], float32, that paints without statistics as the given one did
    with those of this picture (`TrunkPainter.fold`)."""

    def forward(  # type: ignore[override]
        self, latents: Tensor, style: Tensor, amount: Tensor, softness: Tensor
    ) -> tuple[Tensor, Tensor]:
        folded = style.float().clone()
        return self._mixed(latents, style, amount, softness, folded=folded), folded


class PaintWindow(PaintPixels):
    """As PaintPixels, with a folded style: no statistics are taken of the window."""

    def forward(  # type: ignore[override]
        self, latents: Tensor, style: Tensor, amount: Tensor, softness: Tensor
    ) -> tuple[Tensor]:
        return (self._mixed(latents, style, amount, softness, kept=True),)
