"""The two networks that a refinement needs beside the model, stored with the code in float16.

With perception network (`training.perception`) and critic (`training.critic`) in this folder, `training.refine --weights
assets/pocket` continues from the shipped weights on any machine, without the runs that made them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

FOLDER = Path(__file__).parent


def keep(module: nn.Module, name: str) -> int:
    """Writes the weights of a module in float16; returns the file's bytes."""
    tensors = {key: value.detach().to(torch.float16).contiguous() for key, value in module.state_dict().items()}
    path = FOLDER / f"{name}.safetensors"
    save_file(tensors, path)
    return path.stat().st_size


def take(module: nn.Module, name: str) -> bool:
    """Load the stored weights into a module; False if there are none."""
    path = FOLDER / f"{name}.safetensors"
    if not path.is_file():
        return False
    module.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    return True
