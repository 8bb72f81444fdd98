"""Backends: each turns a torch module into a static graph, a callable from tensors to tensors.

`eager` is the reference on any device, `openvino` the fast one on a CPU, `compiled` (torch.compile) on a GPU, and `tensor_rt` an
extra there. `base.py` has the interface, `selection.py` chooses one.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
"""OpenVINO and NNCF report every graph to their makers, from a process that they fork for it, unless this module of theirs is
missing. Eleven miniature graphs took 32 s of processor time with it, beside that of the forks, and 21 s without."""
