"""8-bit weights and activations on a GPU, by torchao (an extra): the matrix products of the transformer blocks.

Activations are quantised per token as they come, weights per channel once, so nothing is calibrated. Convolutions stay
as they are; torchao has no 8-bit ones. So SDXL, most of whose work is in transformer blocks, has the most to gain.
"""

from __future__ import annotations

from importlib.util import find_spec

from torch import Tensor, nn

INSIDE = "transformer_blocks"
SMALLEST = 16
"""The 8-bit product takes sizes that are multiples of it."""


def available() -> bool:
    """Whether torchao is installed."""
    return find_spec("torchao") is not None


def worth(module: nn.Module, name: str) -> bool:
    """Whether a module is a product in a transformer block that is not yet in 8 bits: graphs share their modules."""
    if not isinstance(module, nn.Linear) or INSIDE not in name.split("."):
        return False
    return type(module.weight.data) is Tensor and not (module.in_features % SMALLEST or module.out_features % SMALLEST)


def quantise(module: nn.Module) -> None:
    """In place."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(module, Int8DynamicActivationInt8WeightConfig(), filter_fn=worth)
