"""A UNet's output mixed with the noisy latent that it was given, by a map of its own.

    x̂₀ = F + g · (a x_t − F),   g = gate(h) + b

F is the stock output, h [B, H, h, w] what `conv_out` takes, x_t the noisy latent; a and b [B, C] follow timestep and prompt.
With g = 0 it is the stock output. A small UNet of "sample" prediction needs it: its last normalisation takes the amplitude away,
so not all channels of a picture can pass unchanged, even where there is hardly any noise. The idea is the skip of preconditioned
networks (Karras et al. 2022, arXiv 2206.00364, equation 7), with a gate for each place and channel in the place of c_skip.

diffusers ignores the added tensors when it loads a folder, so its pipelines need the UNet object from our loader.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAME = "latent_gate"


class LatentGate(nn.Module):
    """The mixing. hidden: channels of h; channels: of the latent; embedding: of the time embedding, before its activation."""

    def __init__(self, hidden: int, channels: int, embedding: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(hidden, channels, 3, padding=1)
        self.time = nn.Linear(embedding, 2 * channels)
        for value in self.parameters():
            nn.init.zeros_(value)

    @property
    def length(self) -> int:
        """Numbers of a row's modulation that are this module's: b and a − 1."""
        return self.time.out_features

    def modulation(self, temb: Tensor) -> Tensor:
        """[B, 2C] from the time embedding [B, E]."""
        values: Tensor = self.time(F.silu(temb))
        return values

    def forward(self, out: Tensor, h: Tensor, x: Tensor, modulation: Tensor) -> Tensor:
        """x̂₀ [B, C, h, w]; out is F; modulation [B, 2C]."""
        b, a = (value[..., None, None] for value in modulation.chunk(2, dim=1))
        return out + (self.gate(h) + b) * (x + a * x - out)


def add(unet: Any) -> None:
    """Give a UNet2DConditionModel a gate that changes nothing yet; its own forward then computes with it. ValueError for one
    that predicts another number of channels than it takes, or has a gate already."""
    channels = unet.conv_out.out_channels
    if unet.conv_in.in_channels != channels:
        raise ValueError(f"this UNet takes {unet.conv_in.in_channels} channels and gives {channels}; a gate needs as many")
    if hasattr(unet, NAME):
        raise ValueError("this UNet has a gate already")
    embedding = unet.time_embedding.linear_2.out_features
    with unet.conv_out.weight.device:
        unet.latent_gate = LatentGate(unet.conv_out.in_channels, channels, embedding).to(unet.conv_out.weight.dtype)
    unet.__class__ = _gated()
    unet.conv_out.register_forward_pre_hook(_keep_hidden)
    unet.down_blocks[0].resnets[0].register_forward_pre_hook(_keep_embedding)


def is_in(names: Iterable[str]) -> bool:
    """Whether a network with tensors of these names has a gate."""
    return any(name.startswith(f"{NAME}.") for name in names)


_seen: ContextVar[dict[str, Tensor] | None] = ContextVar("_seen", default=None)
"""What a running forward of diffusers' own gives to its gate. Two threads may run one module. torch.compile sees our passes only,
which have no need of it."""


def _keep_hidden(module: nn.Module, given: tuple[Tensor, ...]) -> None:
    if not torch.compiler.is_compiling() and (seen := _seen.get()) is not None:
        seen["hidden"] = given[0]


def _keep_embedding(module: nn.Module, given: tuple[Tensor, ...]) -> None:
    if not torch.compiler.is_compiling() and (seen := _seen.get()) is not None:
        seen["embedding"] = given[1]


@cache
def _gated() -> type:
    """The stock class with the gate behind its forward. It has the stock name, which diffusers writes to a configuration."""
    from diffusers import UNet2DConditionModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

    def forward(self: Any, sample: Tensor, *given: Any, return_dict: bool = True, **named: Any) -> Any:
        token = _seen.set({})
        try:
            out = UNet2DConditionModel.forward(self, sample, *given, return_dict=False, **named)[0]
            seen = _seen.get() or {}
        finally:
            _seen.reset(token)
        gate = self.latent_gate
        out = gate(out, seen["hidden"], sample, gate.modulation(seen["embedding"]))
        return UNet2DConditionOutput(sample=out) if return_dict else (out,)

    return type("UNet2DConditionModel", (UNet2DConditionModel,), {"forward": forward, "__module__": __name__})
