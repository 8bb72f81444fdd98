"""Which backend, device and dtype a spec gets on this machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from kernels.attention import KINDS, available
from pipelines.graphs.backends import eight_bit, precision
from pipelines.graphs.backends.base import Backend
from pipelines.values.types import GRAPHS_ON_DISK, GpuPath, SpecError, StreamSpec


def resolve(spec: StreamSpec) -> StreamSpec:
    """The spec without "auto": openvino on a CPU, compile on a GPU; bfloat16 where the CPU is faster in it; torch's own
    attention. Raises SpecError."""
    device = spec.device if spec.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.startswith("cuda")
    if on_gpu and not torch.cuda.is_available():
        raise SpecError("device", f"{device!r} needs a CUDA device, which this machine or this build of torch does not have")
    if not on_gpu and device != "cpu":
        raise SpecError("device", f"{device!r} is not one of auto, cpu, cuda, cuda:N")
    backend = spec.backend if spec.backend != "auto" else ("compile" if on_gpu else "openvino")
    if backend == "openvino" and on_gpu:
        raise SpecError("backend", "openvino runs on the CPU only; use compile or eager with a CUDA device")
    dtype = spec.dtype if spec.dtype != "auto" else ("float16" if on_gpu else _cpu_dtype(backend))
    if dtype == "float16" and not on_gpu:
        raise SpecError("dtype", "float16 needs a GPU; a CPU takes float32 or bfloat16")
    if dtype == "int8":
        _check_int8(backend, on_gpu)
    attention = "sdpa" if spec.attention == "auto" else spec.attention
    if attention not in attention_kinds(device):
        why = "needs the package xformers, which is not installed (requirements-gpu.txt)" if on_gpu else "needs a CUDA device"
        raise SpecError("attention", f"{attention} {why}; sdpa is part of torch")
    return dataclasses.replace(spec, device=device, backend=backend, dtype=dtype, attention=attention)


def attention_kinds(device: str) -> tuple[str, ...]:
    """What computes attention on a device of this machine."""
    return tuple(kind for kind in KINDS if kind == "sdpa" or (device.startswith("cuda") and available(kind)))


def _check_int8(backend: str, on_gpu: bool) -> None:
    if on_gpu and backend != "compile":
        raise SpecError("dtype", f"int8 on a GPU needs the compile backend; {backend} takes float16, bfloat16 or float32")
    if on_gpu and not eight_bit.available():
        raise SpecError("dtype", "int8 on a GPU needs torchao (requirements-gpu.txt); float16 and bfloat16 do not")
    if not on_gpu and backend != "openvino":
        raise SpecError("dtype", f"int8 needs the openvino backend on a CPU; {backend} takes float32 or bfloat16")


def check_calibrated(resolved: StreamSpec, calibrated: bool) -> None:
    """Raises SpecError for int8 in OpenVINO and a model without pictures to calibrate it with."""
    if resolved.dtype == "int8" and resolved.backend == "openvino" and not calibrated:
        raise SpecError(
            "dtype", "int8 needs pictures to calibrate with, which this model does not have; bfloat16 or float32 do not"
        )


def _cpu_dtype(backend: str) -> str:
    pays = precision.pays_in_openvino if backend == "openvino" else precision.pays_in_torch
    return "bfloat16" if pays() else "float32"


def create(
    spec: StreamSpec,
    cache_dir: Path | None,
    path: GpuPath = GpuPath(),  # noqa: B008 - frozen
    disk: int = GRAPHS_ON_DISK,
) -> Backend:
    """The backend of a resolved spec. disk: bytes that graphs below cache_dir may take."""
    if spec.backend == "openvino":
        from pipelines.graphs.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(spec.dtype, cache_dir, disk)
    eight = spec.dtype == "int8"
    floats = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    dtype = torch.bfloat16 if eight else floats[spec.dtype]
    device = torch.device(spec.device)
    if spec.backend == "compile":
        from pipelines.graphs.backends.compiled import CompileBackend

        return CompileBackend(device, dtype, path, eight, spec.attention)
    from pipelines.graphs.backends.eager import EagerBackend

    return EagerBackend(device, dtype, path, spec.attention)
