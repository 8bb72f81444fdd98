"""The TensorRT backend, with ONNX Runtime in the library's place: what a CPU can check of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines import ModelParts, SpecError, StreamSpec, describe
from pipelines.graphs.backends import onnx_file, selection, tensor_rt
from pipelines.graphs.backends.eager import EagerBackend
from pipelines.graphs.backends.tensor_rt import TensorRtBackend
from pipelines.graphs.graphs import Graphs
from pipelines.graphs.keys import ALWAYS_READY, GraphKey
from tests.pipelines.graphs import tensor_rt_library

CPU, SIZE = torch.device("cpu"), 128


def graphs(folder: Path, cache: Path | None = None) -> Graphs:
    """The miniature's, of TensorRT with a cache, else of torch."""
    spec = StreamSpec(str(folder), SIZE, SIZE, "eager", "float32", "cpu")
    library = TensorRtBackend(CPU, torch.float32, cache, library=tensor_rt_library) if cache else None
    return Graphs(ModelParts(describe(str(folder))), spec, library or EagerBackend(CPU, torch.float32))


@torch.inference_mode()
def test_the_plain_graphs_as_onnx_compute_what_torch_does_and_are_kept(
    mini_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plain, first = graphs(mini_model), graphs(mini_model, tmp_path)
    capfd.readouterr()
    wanted = {}
    for key in sorted(ALWAYS_READY, key=str):
        first.build(key)
        inputs = plain._example(key)
        wanted[key] = plain.run(key.part, inputs)
        torch.testing.assert_close(first.run(key.part, inputs), wanted[key], rtol=1e-4, atol=1e-4 if key.part != "decode" else 1)
    assert capfd.readouterr().err == "", "the exporter is quiet"
    assert len(list((tmp_path / "tensorrt").glob("*.engine"))) == len(ALWAYS_READY)

    monkeypatch.setattr(onnx_file, "write", None)  # nothing is exported again
    again = graphs(mini_model, tmp_path)
    for key in ALWAYS_READY:
        torch.testing.assert_close(
            again.run(key.part, plain._example(key)), wanted[key], rtol=1e-4, atol=1e-4 if key.part != "decode" else 1
        )


class Doubled(torch.nn.Module):
    def forward(self, x: torch.Tensor, unused: torch.Tensor, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return 2 * x, x + 1, pixels.permute(0, 2, 1).to(x.dtype) / 5


@torch.inference_mode()
def test_outputs_keep_their_order_and_an_engine_that_is_not_taken_is_built_anew(tmp_path: Path) -> None:
    backend = TensorRtBackend(CPU, torch.float16, tmp_path, library=tensor_rt_library)
    x, pixels = torch.arange(4.0).reshape(1, 4), torch.full((1, 2, 3), 255, dtype=torch.uint8)
    example = (x, torch.zeros(1, 4), pixels)
    for _ in range(2):
        double, more, fifth = backend.build("k", Doubled, example)(*example)
        assert double.equal(2 * x) and more.equal((x + 1).half()) and fifth.equal(torch.full((1, 3, 2), 51.0).half())
        assert double.dtype == torch.float32, "the first output is what the engine takes"
        (file,) = (tmp_path / "tensorrt").iterdir()
        backend.store.write(file.name, b"another version")  # type: ignore[union-attr]


def test_an_engine_is_named_after_library_dtype_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for version, dtype, key in (
        ("1", torch.float32, "a"),
        ("2", torch.float32, "a"),
        ("1", torch.float16, "a"),
        ("1", torch.float32, "b"),
    ):
        monkeypatch.setattr(tensor_rt_library, "__version__", version)
        names.append(TensorRtBackend(CPU, dtype, None, library=tensor_rt_library)._name(key))
    assert len(set(names)) == 4


def test_a_file_that_is_not_read_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx_file, "write", lambda *given: None)
    monkeypatch.setattr(tensor_rt_library.OnnxParser, "parse_from_file", lambda self, path: False)
    monkeypatch.setattr(tensor_rt_library.OnnxParser, "num_errors", 1)
    monkeypatch.setattr(tensor_rt_library.OnnxParser, "get_error", lambda self, index: "no such operator", raising=False)
    backend = TensorRtBackend(CPU, torch.float32, tmp_path, library=tensor_rt_library)
    with pytest.raises(SpecError, match=r"backend: tensorrt cannot read a graph of this model \(no such operator\)"):
        backend.build("k", Doubled, (torch.zeros(1, 4),) * 3)


@pytest.mark.parametrize(
    "capability, installed, refusal",
    [
        ((8, 9), {"onnx", "onnxscript", "tensorrt_rtx"}, None),
        ((8, 9), {"onnx", "onnxscript", "tensorrt"}, None),
        ((9, 0), {"onnx", "onnxscript", "tensorrt"}, None),
        ((8, 9), {"onnx", "onnxscript"}, r"needs tensorrt-rtx, not installed here: pip install -r requirements-tensorrt\.txt"),
        ((9, 0), {"onnx", "onnxscript", "tensorrt_rtx"}, "needs tensorrt, not installed here: pip install tensorrt;"),
        ((9, 0), set(), "needs onnx and onnxscript and tensorrt, not installed here: pip install onnx onnxscript tensorrt;"),
    ],
)
def test_what_is_missing_on_a_gpu_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], installed: set[str], refusal: str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    for module in (tensor_rt, onnx_file):
        monkeypatch.setattr(module, "find_spec", lambda name: object() if name in installed else None)
    assert ("tensorrt" in selection.backends("cuda:0")) is (refusal is None)
    if refusal is None:
        spec = selection.resolve(StreamSpec(device="cuda:0", backend="tensorrt"))
        assert (spec.backend, spec.dtype) == ("tensorrt", "float16")
        with pytest.raises(SpecError, match="dtype: int4 on a GPU needs the compile backend; tensorrt takes"):
            selection.resolve(StreamSpec(device="cuda:0", backend="tensorrt", dtype="int4"))
        return
    with pytest.raises(SpecError, match=f"backend: tensorrt {refusal}"):
        selection.resolve(StreamSpec(device="cuda:0", backend="tensorrt"))


def test_a_cpu_is_refused_by_name() -> None:
    assert "tensorrt" not in selection.backends("cpu")
    with pytest.raises(SpecError, match="backend: tensorrt needs an NVIDIA GPU; a CPU takes openvino, compile or eager"):
        selection.resolve(StreamSpec(device="cpu", backend="tensorrt"))


def test_loras_are_in_the_weights_of_an_engine(mini_model: Path) -> None:
    """Neither patched in place, which an engine cannot be, nor beside them as inputs."""
    assert GraphKey("full", 1) in ALWAYS_READY
    assert selection.lora_ways("tensorrt", "float16") == (False, False)
    assert selection.lora_ways("openvino", "float32") == (False, True)
    assert selection.lora_ways("openvino", "int4") == (False, False)
    assert selection.lora_ways("compile", "float16") == (True, False)
