"""Which backend, device and dtype a spec gets, and which it is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import clips
from kernels import attention
from pipelines import ModelParts, SpecError, StreamSpec, describe, load
from pipelines.graphs.backends import openvino as openvino_backend
from pipelines.graphs.backends import precision, selection, torchao_dtypes

SIZE = 128
CLIP = clips.clip("handheld", SIZE, SIZE)


def test_auto_is_openvino_on_a_cpu_and_an_explicit_choice_stays() -> None:
    assert selection.resolve(StreamSpec(device="cpu")).backend == "openvino"
    spec = selection.resolve(StreamSpec(device="cpu", backend="eager", dtype="float32"))
    assert (spec.backend, spec.dtype, spec.device) == ("eager", "float32", "cpu")


@pytest.mark.parametrize("pays", [True, False])
def test_bfloat16_is_taken_only_where_it_is_faster(monkeypatch: pytest.MonkeyPatch, pays: bool) -> None:
    monkeypatch.setattr(precision, "pays_in_openvino", lambda: pays)
    monkeypatch.setattr(precision, "pays_in_torch", lambda: not pays)
    assert selection.resolve(StreamSpec(device="cpu")).dtype == ("bfloat16" if pays else "float32")
    assert selection.resolve(StreamSpec(device="cpu", backend="eager")).dtype == ("float32" if pays else "bfloat16")
    assert selection.resolve(StreamSpec(device="cpu", dtype="bfloat16")).dtype == "bfloat16", "an explicit choice stays"


@pytest.mark.parametrize(
    "change",
    [
        {"device": "tpu"},
        {"device": "cpu", "dtype": "float16"},
        {"device": "cuda", "backend": "openvino"},
        {"device": "cpu", "backend": "eager", "dtype": "int8"},
        {"device": "cpu", "backend": "compile", "dtype": "int4"},
        {"device": "cpu", "dtype": "float8"},
    ],
)
def test_impossible_specs_are_refused(change: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(SpecError):
        selection.resolve(StreamSpec(**change))  # type: ignore[arg-type]


GPU_DTYPES = {"int8": (7, 5), "float8": (8, 9), "int4": (8, 0)}


@pytest.mark.parametrize("dtype", GPU_DTYPES)
def test_a_quantised_dtype_on_a_gpu_needs_torchao_torch_compile_and_a_gpu_that_has_it(
    monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: GPU_DTYPES[dtype])
    monkeypatch.setattr(torchao_dtypes, "find_spec", lambda name: None)
    with pytest.raises(SpecError, match=rf"dtype: {dtype} on a GPU needs torchao \(pip install -r requirements-gpu.txt\)"):
        selection.resolve(StreamSpec(device="cuda", dtype=dtype))
    monkeypatch.setattr(torchao_dtypes, "find_spec", lambda name: object())
    spec = selection.resolve(StreamSpec(device="cuda", dtype=dtype))
    assert (spec.backend, spec.dtype) == ("compile", dtype)
    selection.check_calibrated(spec, False)  # nothing is calibrated there
    made: Any = selection.create(spec, None)
    assert (made.quantised, made.dtype) == (dtype, torch.bfloat16)
    with pytest.raises(SpecError, match="compile"):
        selection.resolve(StreamSpec(device="cuda", backend="eager", dtype=dtype))
    major, minor = GPU_DTYPES[dtype]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major - 1, 9))
    with pytest.raises(SpecError, match=rf"{dtype} needs a GPU of compute capability {major}\.{minor} or later; cuda has"):
        selection.resolve(StreamSpec(device="cuda", dtype=dtype))


@pytest.mark.parametrize("pays, precision_hint", [(True, "bf16"), (False, "f32")])
def test_int4_on_a_cpu_is_openvino_beside_the_faster_floats(
    monkeypatch: pytest.MonkeyPatch, pays: bool, precision_hint: str
) -> None:
    monkeypatch.setattr(precision, "pays_in_openvino", lambda: pays)
    spec = selection.resolve(StreamSpec(device="cpu", dtype="int4"))
    made: Any = selection.create(spec, None)
    assert (spec.backend, made.in_four_bits, made.precision) == ("openvino", True, precision_hint)
    assert not made._exact.in_four_bits, "text encoders stay in floats"


def test_xformers_needs_a_gpu_and_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for device in ("cpu", "cuda"):
        assert selection.resolve(StreamSpec(device=device)).attention == "sdpa"
    monkeypatch.setattr(attention, "find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"attention: xformers needs the package xformers, which is not installed .*; sdpa is"):
        selection.resolve(StreamSpec(device="cuda", attention="xformers"))
    monkeypatch.setattr(attention, "find_spec", lambda name: object())
    assert selection.resolve(StreamSpec(device="cuda:1", attention="xformers")).attention == "xformers"
    for backend in ("openvino", "eager"):
        with pytest.raises(SpecError, match="attention: xformers needs a CUDA device"):
            selection.resolve(StreamSpec(device="cpu", backend=backend, attention="xformers"))
    with pytest.raises(SpecError, match="attention: 'flash' is not one of auto, sdpa, xformers"):
        StreamSpec(attention="flash")


@pytest.mark.parametrize("backend", ["eager", "compile"])
def test_the_spec_s_attention_reaches_the_backend(backend: str) -> None:
    made: Any = selection.create(StreamSpec(backend=backend, dtype="float16", device="cuda", attention="xformers"), None)
    assert made.attention_kind == "xformers"


def test_cuda_without_a_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SpecError, match="device"):
        selection.resolve(StreamSpec(device="cuda"))


def test_int8_is_never_chosen_by_itself(calibrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the processor has it and no bfloat16: at several steps it loses more than it gains."""
    monkeypatch.setattr(openvino_backend, "supports", lambda kind: kind == "INT8")
    precision.pays_in_openvino.cache_clear()
    try:
        pipeline = load(StreamSpec(str(calibrated), SIZE, SIZE, device="cpu"), warm=False)
    finally:
        precision.pays_in_openvino.cache_clear()
    assert (pipeline.spec.backend, pipeline.spec.dtype) == ("openvino", "float32")


def test_int8_is_refused_where_it_cannot_be_calibrated(mini_model: Path, calibrated: Path) -> None:
    assert len(ModelParts(describe(str(calibrated))).calibration) == 5 and ModelParts(describe(str(mini_model))).calibration == ()
    with pytest.raises(SpecError, match="calibrate"):
        load(StreamSpec(str(mini_model), SIZE, SIZE, "openvino", "int8"))
