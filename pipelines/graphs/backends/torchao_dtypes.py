"""int8, float8 and int4 on an NVIDIA GPU, by torchao (an extra): matrix products of the transformer blocks.

int8 and float8: weights once (for each output), activations for each token as they come, so nothing is calibrated. int4: the
residuals of SVDQuant (pipelines/networks/svdquant.py) in groups of 64, activations in bfloat16 (W4A16, torch's own kernel). The
other convolutions stay as they are. So SDXL, most of whose work is in transformer blocks, has the most to gain.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor, nn

from pipelines.networks import svdquant

CAPABILITY = {"int8": (7, 5), "float8": (8, 9), "int4": (8, 0)}
"""Compute capability of a GPU from which torchao's kernels run: Turing, Ada and Ampere."""

INSIDE = "transformer_blocks"
SMALLEST = 16
"""The products take sizes that are multiples of it."""


def available() -> bool:
    """Whether torchao is installed."""
    return find_spec("torchao") is not None


def obstacle(dtype: str, device: str) -> str | None:
    """Why a CUDA device of this machine cannot compute in int8, float8 or int4, for people; None if it can."""
    if not available():
        return f"{dtype} on a GPU needs torchao (pip install -r requirements-gpu.txt); float16 and bfloat16 do not"
    if not torch.cuda.is_available():
        return f"{dtype} on {device} needs a CUDA device, which this machine or this build of torch does not have"
    needed, given = CAPABILITY[dtype], torch.cuda.get_device_capability(device)
    if given < needed:
        wanted, found = (".".join(map(str, version)) for version in (needed, given))
        return f"{dtype} needs a GPU of compute capability {wanted} or later; {device} has {found}. float16 and bfloat16 do not"
    return None


def worth(module: nn.Module, name: str) -> bool:
    """Whether a module is a product in a transformer block that is not quantised yet: graphs share their modules."""
    if not isinstance(module, nn.Linear) or INSIDE not in name.split("."):
        return False
    return _plain(module) and not (module.in_features % SMALLEST or module.out_features % SMALLEST)


def worth_four_bits(module: nn.Module, name: str) -> bool:
    """Whether a module is the residual of a split layer that is not quantised yet."""
    return isinstance(module, nn.Linear) and svdquant.is_residual(name) and _plain(module)


def _plain(module: nn.Linear) -> bool:
    return type(module.weight.data) is Tensor


def quantise(module: nn.Module, dtype: str) -> None:
    """In place, a module in bfloat16 on its device. dtype: int8, float8 or int4."""
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Int4WeightOnlyConfig,
        Int8DynamicActivationInt8WeightConfig,
        PerRow,
        quantize_,
    )

    if dtype == "int8":
        quantize_(module, Int8DynamicActivationInt8WeightConfig(), filter_fn=worth)
    elif dtype == "float8":
        quantize_(module, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()), filter_fn=worth)
    elif svdquant.of_unet(module):
        config = Int4WeightOnlyConfig(group_size=svdquant.GROUP, int4_packing_format="tile_packed_to_4d")
        quantize_(svdquant.rewrite(module), config, filter_fn=worth_four_bits)
