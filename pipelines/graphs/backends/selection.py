"""Which backend, device and dtype a spec gets on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import torch

from kernels.attention import KINDS, available
from pipelines.graphs import memory
from pipelines.graphs.backends import precision, tensor_rt, torchao_dtypes
from pipelines.graphs.backends.base import Backend
from pipelines.networks import svdquant
from pipelines.values.types import GRAPHS_ON_DISK, GpuPath, SpecError, StreamSpec


def resolve(spec: StreamSpec) -> StreamSpec:
    """The spec without "auto": openvino on a CPU, compile on a GPU; bfloat16 where the CPU is faster in it; torch's own
    attention. Raises SpecError."""
    if spec.patch_devices:
        _check_pair(spec.patch_devices)
        spec = dataclasses.replace(spec, device=spec.patch_devices[0], backend="eager")
    device = spec.device if spec.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.startswith("cuda")
    if on_gpu and not torch.cuda.is_available():
        raise SpecError("device", f"{device!r} needs a CUDA device, which this machine or this build of torch does not have")
    if not on_gpu and device != "cpu":
        raise SpecError("device", f"{device!r} is not one of auto, cpu, cuda, cuda:N")
    backend = spec.backend if spec.backend != "auto" else ("compile" if on_gpu else "openvino")
    if backend == "openvino" and on_gpu:
        raise SpecError("backend", "openvino runs on the CPU only; use compile or eager with a CUDA device")
    obstacle = tensor_rt.obstacle(device) if backend == "tensorrt" else None
    if obstacle is not None:
        raise SpecError("backend", obstacle)
    dtype = spec.dtype if spec.dtype != "auto" else ("float16" if on_gpu else _cpu_dtype(backend))
    if dtype == "float16" and not on_gpu:
        raise SpecError("dtype", "float16 needs a GPU; a CPU takes float32 or bfloat16")
    if dtype in StreamSpec.QUANTISED:
        _check_quantised(dtype, backend, device)
    attention = "sdpa" if spec.attention == "auto" else spec.attention
    if attention not in attention_kinds(device):
        why = "needs the package xformers, which is not installed (requirements-gpu.txt)" if on_gpu else "needs a CUDA device"
        raise SpecError("attention", f"{attention} {why}; sdpa is part of torch")
    return dataclasses.replace(spec, device=device, backend=backend, dtype=dtype, attention=attention)


def _check_pair(devices: tuple[str, ...]) -> None:
    """Raises SpecError unless these devices exist, with what moves tensors between them."""
    count = torch.cuda.device_count()
    missing = [name for name in devices if name.startswith("cuda") and int(name[5:]) >= count]
    if missing:
        raise SpecError("patch_devices", f"{' and '.join(missing)} is missing; this machine has {count} CUDA devices")
    moves = torch.distributed
    if not moves.is_available() or not (moves.is_gloo_available() if devices[0] == "cpu" else moves.is_nccl_available()):
        raise SpecError("patch_devices", "this build of torch has no transport for them: gloo for CPUs, nccl for GPUs")


def check_halves(resolved: StreamSpec, size_multiple: int, extras: bool) -> None:
    """Raises SpecError for pictures that cannot be halved. size_multiple: of the model's sizes in pixels. extras: it has
    ControlNets or an adapter for picture prompts."""
    if resolved.patch_devices and resolved.height % (2 * size_multiple):
        raise SpecError("patch_devices", f"a height of {resolved.height} cannot be halved; multiples of {2 * size_multiple} can")
    if resolved.patch_devices and extras:
        raise SpecError("patch_devices", "a model with a ControlNet or an adapter for picture prompts runs on one device only")


def attention_kinds(device: str) -> tuple[str, ...]:
    """What computes attention on a device of this machine."""
    return tuple(kind for kind in KINDS if kind == "sdpa" or (device.startswith("cuda") and available(kind)))


def backends(device: str) -> tuple[str, ...]:
    """What builds graphs on a device of this machine, the default first."""
    if device == "cpu":
        return "openvino", "eager", "compile"
    return ("compile", "eager") if tensor_rt.obstacle(device) else ("compile", "eager", "tensorrt")


def lora_ways(backend: str, dtype: str) -> tuple[bool, bool]:
    """Whether LoRAs of a resolved spec can be patched into the weights while these run, and whether they can be beside them with
    gains as inputs. Where neither is so, other LoRAs need a new pipeline."""
    in_floats = dtype not in StreamSpec.QUANTISED
    return in_floats and backend in ("eager", "compile"), in_floats and backend == "openvino"


def quantised_dtypes(device: str) -> tuple[str, ...]:
    """int8, float8 and int4 where a device of this machine takes them."""
    if device == "cpu":
        return "int8", "int4"
    return tuple(dtype for dtype in StreamSpec.QUANTISED if torchao_dtypes.obstacle(dtype, device) is None)


def _check_quantised(dtype: str, backend: str, device: str) -> None:
    if device == "cpu":
        if dtype == "float8":
            raise SpecError("dtype", "float8 needs a GPU; a CPU takes float32, bfloat16, int8 or int4")
        if backend != "openvino":
            raise SpecError("dtype", f"{dtype} needs the openvino backend on a CPU; {backend} takes float32 or bfloat16")
        return
    if backend != "compile":
        raise SpecError("dtype", f"{dtype} on a GPU needs the compile backend; {backend} takes float16, bfloat16 or float32")
    obstacle = torchao_dtypes.obstacle(dtype, device)
    if obstacle is not None:
        raise SpecError("dtype", obstacle)


def check_calibrated(resolved: StreamSpec, calibrated: bool) -> None:
    """Raises SpecError for int8 in OpenVINO and a model without pictures to calibrate it with."""
    if resolved.dtype == "int8" and resolved.backend == "openvino" and not calibrated:
        raise SpecError(
            "dtype", "int8 needs pictures to calibrate with, which this model does not have; bfloat16 or float32 do not"
        )


def check_compressible(resolved: StreamSpec, files: Iterable[Path]) -> None:
    """Raises SpecError for int4 and network files without a layer that is large enough."""
    if resolved.dtype == "int4" and not any(map(memory.has_compressible, files)):
        smallest = f"linear or 1 x 1 layers of {svdquant.SMALLEST} channels and more"
        raise SpecError("dtype", f"int4 needs {smallest} in a UNet, which this model does not have; the other dtypes do not")


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

        four = spec.dtype == "int4"
        return OpenVinoBackend(_cpu_dtype("openvino") if four else spec.dtype, cache_dir, disk, four)
    quantised = spec.dtype if spec.dtype in StreamSpec.QUANTISED else None
    floats = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    dtype = floats[spec.dtype] if quantised is None else torch.bfloat16
    device = torch.device(spec.device)
    if spec.backend == "tensorrt":
        return tensor_rt.TensorRtBackend(device, dtype, cache_dir, disk)
    if spec.backend == "compile":
        from pipelines.graphs.backends.compiled import CompileBackend

        return CompileBackend(device, dtype, path, quantised, spec.attention)
    from pipelines.graphs.backends.eager import EagerBackend

    return EagerBackend(device, dtype, path, spec.attention)
