"""What a UNet takes beside its latent, made from the incoming frame: for inpainting, or for editing by an instruction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from pipelines.checkpoints.loader.unet_config import SPATIAL_FACTOR
from pipelines.graphs.graphs import Graphs
from pipelines.techniques.noise import ToDevice


class Beside:
    """Of one pipeline. Inpainting: the mask, 1 where the picture is drawn anew, and the latent of the picture that is grey there.
    Without a painted mask, or without a picture, all is drawn anew. InstructPix2Pix: the picture's latent, 0 without one."""

    def __init__(self, graphs: Graphs, to_device: ToDevice) -> None:
        self._graphs, self._to_device = graphs, to_device

    def __call__(self, pixels: Tensor, latents: Tensor, masks: Sequence[Tensor | None]) -> list[Tensor | None]:
        """[C', h, w] for each picture, uint8 [B, H, W, 3], with its latent, of [B, C, h, w], and its mask, uint8 [H, W]. None
        for a UNet that takes its latent alone."""
        match self._graphs.parts.beside:
            case "mask":
                return list(self._masked(pixels, masks))
            case "source":
                return list(latents * self._graphs.parts.source_scale)
        return [None] * len(masks)

    @cached_property
    def nothing(self) -> Tensor | None:
        """[C', h, w] for a frame without a picture."""
        match self._graphs.parts.beside:
            case "mask":
                spec = self._graphs.spec
                black = self._to_device(torch.zeros(1, spec.height, spec.width, 3, dtype=torch.uint8))
                latent = self._graphs.run("encode-masked", (black, black[..., 0]))[0][0]
                return torch.cat([torch.ones_like(latent[:1]), latent])
            case "source":
                return self._to_device(torch.zeros(self._graphs.latent_shape))
        return None

    def _masked(self, pixels: Tensor, masks: Sequence[Tensor | None]) -> list[Tensor | None]:
        made = [self.nothing] * len(masks)
        places = [place for place, mask in enumerate(masks) if mask is not None]
        if places:
            anew = torch.stack([self._to_device(mask) for mask in masks if mask is not None])
            latents = self._graphs.run("encode-masked", (pixels[places], 1 - anew))[0]
            for place, latent, mask in zip(places, latents, anew, strict=True):
                cells = mask[None, ::SPATIAL_FACTOR, ::SPATIAL_FACTOR].to(latent.dtype)  # as diffusers makes the mask smaller
                made[place] = torch.cat([cells, latent])
        return made
