"""OpenVINO on the CPU: bf16 where the processor has it (AMX or AVX512-BF16), float32 elsewhere.

Two things are kept on disk between starts: the converted graph (IR, with the weights in fp16 as shipped) and OpenVINO's
compiled blob. Both names hold the fingerprint of the weights, so new weights never meet old graphs.
"""

from __future__ import annotations

import gc
import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from torch import Tensor, nn

from kernels.groupnorm import rewrite
from pipelines.backends import Graph


@cache
def _core() -> Any:
    core = ov.Core()
    core.set_property({"CACHE_MODE": "OPTIMIZE_SPEED"})
    return core


@cache
def supports_bf16() -> bool:
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoBackend:
    name = "openvino"
    torch_threads = 1

    def __init__(self, dtype: torch.dtype, cache_dir: Path | None) -> None:
        self.precision = "bf16" if dtype == torch.bfloat16 else "f32"
        self.cache_dir = cache_dir

    def build(self, key: str, make: Callable[[], nn.Module], example: Sequence[Tensor]) -> Graph:
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": self.precision}
        path = self._ir_path(key)
        if path is not None and path.exists():
            model = _core().read_model(path)
        else:
            model = self._convert(make, example)
            if path is not None:
                _save(model, path)
        if path is not None:
            config["CACHE_DIR"] = str(path.parent)
        compiled = _core().compile_model(model, "CPU", config)
        del model
        gc.collect()
        return _graph(compiled)

    def _ir_path(self, key: str) -> Path | None:
        if self.cache_dir is None:
            return None
        digest = hashlib.sha256(f"{ov.__version__} {torch.__version__} {key}".encode()).hexdigest()[:24]
        return self.cache_dir / "openvino" / f"{digest}.xml"

    def _convert(self, make: Callable[[], nn.Module], example: Sequence[Tensor]) -> Any:
        module = rewrite(make().float().eval())
        with torch.inference_mode(), warnings.catch_warnings():
            # Tracing warns of every shape check in diffusers; the shapes of these graphs are fixed on purpose.
            warnings.simplefilter("ignore")
            model = ov.convert_model(module, example_input=tuple(example))
        model.reshape({index: list(value.shape) for index, value in enumerate(example)})
        return model


def _save(model: Any, path: Path) -> None:
    """Written beside and renamed, so that a start that dies half-way leaves no half graph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        ov.save_model(model, part, compress_to_fp16=True)
        os.replace(part.with_suffix(".bin"), path.with_suffix(".bin"))
        os.replace(part, path)


def _graph(compiled: Any) -> Graph:
    request = compiled.create_infer_request()

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        results = request.infer([np.ascontiguousarray(value.numpy()) for value in inputs], share_inputs=True, share_outputs=True)
        # The request owns its output memory and writes it again on the next call.
        return tuple(torch.from_numpy(results[index].copy()) for index in range(len(compiled.outputs)))

    return run
