"""The modulation of a diffusers UNet: timestep, prompt and added conditions as one vector for each row, read by the resnets.

It does not depend on the latent. So a stream computes it once for each prompt and noise level, and not in every call: the
sinusoids, the time embedding's layers, the pooling of the prompt, and one product for each resnet (22 in SD 1.5). For UNets
that pass `unet.check_supported`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kernels.group_norm_silu import NormActivation
from kernels.groupnorm import ModulatedGroupNorm
from pipelines.networks import latent_gate

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


def modulation_length(channels: int, scales: bool) -> int:
    """The length of the modulation of one resnet with `channels` output channels. scales: it has scale and shift."""
    return 2 * channels if scales else channels


class Resnet(nn.Module):
    """A ResnetBlock2D of diffusers that reads its part of the modulation, from index `start` on: a shift of the first
    convolution's output, or scale and shift of the second normalisation."""

    def __init__(self, block: Any, start: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = block.in_channels, block.out_channels
        self.scales = block.time_embedding_norm == "scale_shift"
        self.scale_factor = block.output_scale_factor
        self.start = start
        self.conv1, self.conv2, self.activation = block.conv1, block.conv2, block.nonlinearity
        self.before1 = NormActivation(block.norm1, block.nonlinearity)
        norm2 = ModulatedGroupNorm(block.norm2.num_groups, block.norm2.eps) if self.scales else None
        self.before2 = NormActivation(block.norm2, block.nonlinearity) if norm2 is None else norm2
        self.shortcut = block.conv_shortcut

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        h = self.conv1(self.before1(x))
        values = modulation[:, self.start : self.start + modulation_length(self.out_channels, self.scales)]
        h = self.activation(self.before2(h, *values.chunk(2, dim=1))) if self.scales else self.before2(h, values)
        h = self.conv2(h)
        x = x if self.shortcut is None else self.shortcut(x)
        return (x + h) / self.scale_factor if self.scale_factor != 1.0 else x + h


class ResnetModulation(nn.Module):
    """One resnet's part of the modulation, from the time embedding [B, E]: a shift [B, C]; or scale and shift [B, 2C],
    multiplied with the normalisation's own weight and bias."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.activation = None if block.skip_time_act else block.nonlinearity
        self.projection = block.time_emb_proj
        scales = block.time_embedding_norm == "scale_shift"
        self.weight: Tensor | None = block.norm2.weight if scales else None
        self.bias: Tensor | None = block.norm2.bias if scales else None

    def forward(self, temb: Tensor) -> Tensor:
        values: Tensor = self.projection(temb if self.activation is None else self.activation(temb))
        if self.weight is None or self.bias is None:
            return values
        scale, shift = values.chunk(2, dim=1)
        return torch.cat([self.weight * (1 + scale), self.bias * (1 + scale) + shift], dim=1)


class TimeEmbedding(nn.Module):
    """Timestep and added conditions of a UNet or a ControlNet to its time embedding.

    forward(t [B] or [1], emb [B,L,D], *added) → [B, E]. `added` is, in this order: pooled [B,P] and time_ids [B,6] if the
    network has text_time conditions (SDXL); then w [B,W], the guidance embedding of a distilled LCM
    (`unet.guidance_embedding`), optional if it has time_cond_proj_dim. Raises ValueError for other inputs.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.time_proj = network.time_proj
        self.time_embedding = network.time_embedding
        self.activation = getattr(network, "time_embed_act", None)
        self.takes_added = network.config.addition_embed_type == "text_time"
        self.pools_text = network.config.addition_embed_type == "text"  # an attention pooling of the prompt embedding itself
        takes_w = network.config.get("time_cond_proj_dim") is not None
        self.counts = (2 * self.takes_added, 2 * self.takes_added + takes_w)
        self.names = " and ".join(["pooled, time_ids"] * self.takes_added + ["optionally w"] * takes_w)
        if self.takes_added:
            self.add_time_proj = network.add_time_proj
        if self.takes_added or self.pools_text:
            self.add_embedding = network.add_embedding

    def forward(self, t: Tensor, emb: Tensor, *added: Tensor) -> Tensor:
        if len(added) not in self.counts:
            raise ValueError(f"{len(added)} added conditions given; this network takes {self.names or 'none'}")
        w = added[-1].to(emb.dtype) if len(added) > 2 * self.takes_added else None
        # The sinusoids are made in float32: bfloat16 cannot distinguish timesteps 999 and 1000.
        temb = self.time_embedding(self.time_proj(t.expand(emb.shape[0])).to(emb.dtype), w)
        if self.takes_added:
            pooled, time_ids = added[:2]
            times = self.add_time_proj(time_ids.flatten()).reshape(pooled.shape[0], -1)  # [B, 6 * 256]
            temb = temb + self.add_embedding(torch.cat([pooled, times], dim=-1).to(temb.dtype))
        elif self.pools_text:
            temb = temb + self.add_embedding(emb)
        return temb if self.activation is None else self.activation(temb)


class FractionalTimesteps(nn.Module):
    """The sinusoids of timesteps that are given as whole numbers of parts, `fraction` to one timestep."""

    def __init__(self, sinusoids: nn.Module, fraction: int) -> None:
        super().__init__()
        self.sinusoids, self.fraction = sinusoids, fraction

    def forward(self, t: Tensor) -> Tensor:
        values: Tensor = self.sinusoids(t.float() / self.fraction)
        return values


class ModulationPass(nn.Module):
    """Timestep, prompt and added conditions to the modulation of all resnets, and then of the gate (latent_gate.py).

    forward(t [B] or [1], emb [B,L,D], *added) → (modulation [B, M],); `added` and errors as for TimeEmbedding.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.embed = TimeEmbedding(unet)
        self.resnets = nn.ModuleList(ResnetModulation(block) for block in resnets(unet))
        self.gate = getattr(unet, latent_gate.NAME, None)

    def forward(self, t: Tensor, emb: Tensor, *added: Tensor) -> tuple[Tensor]:
        temb = self.embed(t, emb, *added)
        gate = () if self.gate is None else (self.gate.modulation(temb),)
        return (torch.cat([*(resnet(temb) for resnet in self.resnets), *gate], dim=1),)


def resnets(unet: UNet2DConditionModel) -> list[Any]:
    """All resnets of the UNet in the order of the modulation: down, middle, up, each in diffusers' order."""
    blocks = [*unet.down_blocks, *([unet.mid_block] if unet.mid_block is not None else []), *unet.up_blocks]
    return [resnet for block in blocks for resnet in block.resnets]


def wrapped_resnets(unet: UNet2DConditionModel) -> dict[int, Resnet]:
    """A Resnet that reads the modulation for every diffusers resnet, by the latter's id."""
    found: dict[int, Resnet] = {}
    start = 0
    for block in resnets(unet):
        found[id(block)] = Resnet(block, start)
        start += modulation_length(block.out_channels, block.time_embedding_norm == "scale_shift")
    return found


def modulation_size(config: Mapping[str, Any], gated: bool = False) -> int:
    """M, the length of a row's modulation, from a UNet's configuration. gated: it has a gate (latent_gate.py)."""
    channels = config["block_out_channels"]
    layers = config["layers_per_block"]
    per_block = [layers] * len(channels) if isinstance(layers, int) else layers
    middle = {None: 0, "UNetMidBlock2D": 1}.get(config["mid_block_type"], 2)
    total = sum(count * (2 * down + 1) for count, down in zip(channels, per_block, strict=True)) + middle * channels[-1]
    return modulation_length(total, config["resnet_time_scale_shift"] == "scale_shift") + 2 * gated * config["out_channels"]
