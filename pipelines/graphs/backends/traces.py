"""What TorchScript keeps of every trace for the life of the process: the class it makes for the module, and with it the weights.

OpenVINO's `convert_model` traces each network. Four graphs of the pocket model at 256 pixels left 177 MiB behind, each time; a
server whose visitors try other sizes grew without end. optimum-intel does the same after each of its exports.
"""

from __future__ import annotations

import torch


def forget() -> None:
    """Drop every class that TorchScript has made. Traced modules that are still in use would break: nobody here keeps one."""
    torch._C._jit_clear_class_registry()
    recursive = torch.jit._recursive
    recursive.concrete_type_store = recursive.ConcreteTypeStore()
    torch.jit._state._clear_class_state()
