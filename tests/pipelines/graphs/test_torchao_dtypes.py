"""Which products go to torchao on a GPU, and in what."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from pipelines.graphs.backends import torchao_dtypes
from pipelines.networks import svdquant
from pipelines.networks.svdquant import LowRankLinear

INSIDE = "up.0.attention.transformer_blocks.0.attn1.to_q"


def test_products_of_transformer_blocks_alone_are_worth_eight_bits() -> None:
    wide, odd = nn.Linear(32, 64), nn.Linear(32, 60)
    assert torchao_dtypes.worth(wide, INSIDE)
    assert not torchao_dtypes.worth(wide, "embed.time_embedding.linear_1")
    assert not torchao_dtypes.worth(odd, INSIDE) and not torchao_dtypes.worth(nn.Conv2d(32, 32, 1), INSIDE)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any], set[str]]]:
    """(config, its fields, names of the layers) of each call of torchao, which the development environment lacks."""
    found: list[tuple[str, dict[str, Any], set[str]]] = []

    def config(name: str) -> Any:
        return lambda **fields: SimpleNamespace(name=name, fields=fields)

    def quantize_(module: nn.Module, given: Any, filter_fn: Any) -> None:
        names = {name for name, part in module.named_modules() if filter_fn(part, name)}
        found.append((given.name, given.fields, names))

    names = ("Float8DynamicActivationFloat8WeightConfig", "Int4WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig")
    stand_in = ModuleType("torchao.quantization")
    vars(stand_in).update({name: config(name) for name in names}, quantize_=quantize_, PerRow=lambda: "rows")
    monkeypatch.setitem(sys.modules, "torchao", ModuleType("torchao"))
    monkeypatch.setitem(sys.modules, "torchao.quantization", stand_in)
    return found


def block() -> nn.Module:
    made = nn.Module()
    made.transformer_blocks, made.time_embedding = nn.ModuleList([nn.Linear(128, 128)]), nn.Linear(128, 128)
    made.conv_shortcut = nn.Conv2d(128, 128, 1)
    return made.bfloat16()


def test_each_dtype_gives_torchao_its_layers(calls: list[tuple[str, dict[str, Any], set[str]]]) -> None:
    for dtype in torchao_dtypes.CAPABILITY:
        torchao_dtypes.quantise(block(), dtype)
    residuals = {"transformer_blocks.0.residual", "conv_shortcut.residual"}
    assert calls == [
        ("Int8DynamicActivationInt8WeightConfig", {}, {"transformer_blocks.0"}),
        ("Float8DynamicActivationFloat8WeightConfig", {"granularity": "rows"}, {"transformer_blocks.0"}),
        ("Int4WeightOnlyConfig", {"group_size": svdquant.GROUP, "int4_packing_format": "tile_packed_to_4d"}, residuals),
    ]


def test_int4_splits_layers_in_their_dtype_and_no_autoencoder(calls: list[tuple[str, dict[str, Any], set[str]]]) -> None:
    unet, autoencoder = block(), block()
    autoencoder.lane = "decode"
    torchao_dtypes.quantise(unet, "int4")
    torchao_dtypes.quantise(autoencoder, "int4")
    assert isinstance(unet.conv_shortcut, LowRankLinear) and {value.dtype for value in unet.parameters()} == {torch.bfloat16}
    assert isinstance(autoencoder.conv_shortcut, nn.Conv2d) and len(calls) == 1
