"""The ONNX file of a graph: its names, and what is needed to write it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from pipelines.graphs.backends import onnx_file


class Partly(nn.Module):
    def forward(self, x: Tensor, unused: Tensor) -> tuple[Tensor, Tensor]:
        return 2 * x, x + 1


def test_inputs_and_outputs_are_numbered_and_an_unused_input_stays(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    onnx_file.write(Partly(), (torch.zeros(1, 4), torch.zeros(1, 4)), path)
    graph = onnx.load(path).graph
    assert [port.name for port in graph.input] == ["in0", "in1"]
    assert [port.name for port in graph.output] == ["out0", "out1"]


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None if name == "onnxscript" else object())
    assert onnx_file.missing() == ("onnxscript",)
