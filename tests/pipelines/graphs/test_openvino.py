"""OpenVINO's graphs: kept on disk, in halves, in eight bits, handing over hidden states."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from benchmarks import clips
from pipelines import Pixels
from pipelines.graphs.backends import openvino as openvino_backend
from pipelines.graphs.backends.openvino import OpenVinoBackend, convolutions
from pipelines.graphs.graphs import Graphs
from tests.pipelines.graphs.pictures import picture

SIZE = 128
CLIP = clips.clip("handheld", SIZE, SIZE)


class Affine(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), scale))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * self.weight, x + 1


def test_graphs_are_kept_on_disk_and_found_again(tmp_path: Path) -> None:
    example = (torch.ones(2, 3),)
    first = OpenVinoBackend("float32", tmp_path).build("weights-a", lambda: Affine(2.0), example)

    def unwanted() -> nn.Module:
        raise AssertionError("the module must not be needed again")

    again = OpenVinoBackend("float32", tmp_path).build("weights-a", unwanted, example)
    other = OpenVinoBackend("float32", tmp_path).build("weights-b", lambda: Affine(5.0), example)
    x = torch.arange(6.0).reshape(2, 3)
    for graph, scale in ((first, 2.0), (again, 2.0), (other, 5.0)):
        product, plus = graph(x)
        torch.testing.assert_close(product, x * scale)
        torch.testing.assert_close(plus, x + 1)


def test_every_start_computes_what_the_first_one_did(tmp_path: Path) -> None:
    """The files hold half precision: a first start that went on with its own weights would be the only one of its kind."""
    torch.manual_seed(0)
    module = Counting()
    x = torch.rand(1, 3, 8, 8)
    first, again = (OpenVinoBackend("float32", tmp_path).build("k", lambda: module, (x,)) for _ in range(2))
    assert torch.equal(first(x)[0], again(x)[0])


def test_openvino_sends_no_telemetry() -> None:
    code = """
import sys, pipelines.graphs.backends
from openvino.tools.ovc import telemetry_stub, telemetry_utils
print(telemetry_utils.tm is telemetry_stub, sys.modules["openvino_telemetry"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "None"]


def test_results_survive_the_next_call() -> None:
    graph = OpenVinoBackend("float32", None).build("k", lambda: Affine(2.0), (torch.ones(2, 3),))
    kept = graph(torch.ones(2, 3))[0]
    graph(torch.zeros(2, 3))
    torch.testing.assert_close(kept, torch.full((2, 3), 2.0))


class Mixing(nn.Module):
    """Independent rows, each with the number of rows that it was computed with."""

    def forward(self, x: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        return x.sin() * text.mean((1, 2))[:, None, None, None], x * 0 + x.shape[0]


@pytest.mark.parametrize(
    ("rows", "side", "cores", "weights", "lanes"),
    [
        (4, 64, 2, 0, 2),
        (2, 48, 8, 0, 2),
        (4, 32, 1, 0, 1),
        (4, 32, 3, 0, 1),
        (3, 32, 2, 0, 1),
        (1, 32, 2, 0, 1),
        (2, 72, 2, 0, 1),
        (2, 64, 2, 10**8, 1),
    ],
)
def test_an_even_batch_of_small_latents_runs_in_two_lanes(
    rows: int, side: int, cores: int, weights: int, lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_backend.os, "sched_getaffinity", lambda process: set(range(cores)))
    assert OpenVinoBackend("float32", None).lanes(rows, side * side, weights) == lanes


@pytest.mark.parametrize("lanes", [1, 2])
def test_lanes_are_computed_apart_and_in_order(lanes: int, tmp_path: Path) -> None:
    x, text = torch.randn(lanes * 2, 2, 32, 32), torch.randn(lanes * 2, 3, 5)
    lane = x[:2], text[:2]
    made, found = (OpenVinoBackend("float32", tmp_path).build("k", Mixing, lane, None, lanes) for _ in range(2))
    for graph, value in ((made, x), (made, -x), (found, x)):
        product, counted = graph(value, text)
        torch.testing.assert_close(product, Mixing()(value, text)[0])
        assert counted.unique().tolist() == [2]


def test_a_graph_of_two_lanes_is_read_from_the_file_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, text = torch.randn(2, 2, 32, 32), torch.randn(2, 3, 5)
    OpenVinoBackend("float32", tmp_path).build("k", Mixing, (x[:1], text[:1]))
    monkeypatch.setattr(openvino_backend.ov, "convert_model", None)
    graph = OpenVinoBackend("float32", tmp_path).build("k", Mixing, (x[:1], text[:1]), None, 2)
    torch.testing.assert_close(graph(x, text)[0], Mixing()(x, text)[0])


def test_a_quantised_batch_runs_in_two_lanes() -> None:
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    module = Counting().eval()
    graph = OpenVinoBackend("int8", None).build("k", lambda: module, (x[:1],), lambda: [(x[:1],), (1 - x[1:],)], 2)
    result, counted = graph(x)
    assert counted.unique().tolist() == [1]
    torch.testing.assert_close(result, module(x)[0].detach(), atol=0.05, rtol=0)


def test_a_quantisation_leaves_the_handlers_of_others_alone() -> None:
    x, handler, logger = torch.rand(1, 3, 8, 8), logging.NullHandler(), logging.getLogger("nncf")
    logger.addHandler(handler)  # as pytest and log collectors do
    try:
        OpenVinoBackend("int8", None).build("k", lambda: Counting().eval(), (x,), lambda: [(x,), (1 - x,)])
    finally:
        logger.removeHandler(handler)
    assert handler.level == logging.NOTSET


class Named(nn.Module):
    """Convolutions with the names that a UNet's and a decoder's have in their graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in, self.body, self.conv_out = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.decoder = nn.ModuleDict({name: nn.Conv2d(4, 4, 3, padding=1) for name in ("conv_in", "conv_out")})
        self.synthesis = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        x = self.conv_out(self.body(self.conv_in(x).relu()).relu())
        return (self.synthesis(self.decoder["conv_out"](self.decoder["conv_in"](x).relu())),)


def test_int8_leaves_what_draws_pixels_in_floats(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 4, 16, 16)
    samples = [(x,), (1 - x,)]
    quantised = {"conv_in", "body", "conv_out", "decoder.conv_in", "decoder.conv_out"}
    for dtype, given, expected in (("int8", lambda: samples, quantised), ("float32", None, set())):
        backend, found = OpenVinoBackend(dtype, tmp_path), set()
        for node in backend.model(lambda: Named().eval(), (x,), given).get_ops():
            if node.get_type_name() == "Convolution" and node.input_value(0).get_node().get_type_name() == "FakeQuantize":
                found.add(node.get_friendly_name().split("/")[0].removeprefix("__module."))
        assert found == expected
        backend.build("k", lambda: Named().eval(), (x,), given)
    assert len(list((tmp_path / "openvino").iterdir())) == 2, "the same name does not hide one kind of graph behind the other"


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.norm, self.behind = nn.Conv2d(4, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 1)
        self.shortcut = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        skip = self.before(x)
        h = skip + self.behind(torch.nn.functional.silu(self.norm(skip)))
        return (self.shortcut(torch.cat([h, skip], dim=1)),)


def test_int8_quantises_what_products_take_and_nothing_else() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 4, 16, 16)
    nodes = OpenVinoBackend("int8", None).model(lambda: Normed().eval(), (x,), lambda: [(x,), (1 - x,)]).get_ops()
    kinds = [node.get_type_name() for node in nodes]
    assert kinds.count("ReduceMean") == 4 and "Add" in kinds and "Concat" in kinds
    quantised = [node for node in nodes if node.get_type_name() == "FakeQuantize"]
    takers = {taker.get_node().get_type_name() for node in quantised for taker in node.output(0).get_target_inputs()}
    assert takers == {"Convolution"}, "no mean, no sum, no concatenation with a skip"
    convolutions = [node for node in nodes if node.get_type_name() == "Convolution"]
    taken = {node.input_value(0).get_node().get_type_name() for node in convolutions}
    assert taken == {"FakeQuantize"}


@pytest.mark.parametrize("dtype, transposed", [("float32", 1), ("bfloat16", 1), ("int8", 0)])
def test_upsamplers_are_transposed_convolutions_but_in_int8(dtype: str, transposed: int) -> None:
    torch.manual_seed(0)
    module = nn.ModuleDict({"up": Upsample2D(4, use_conv=True)}).eval()
    module.forward = lambda x: (module["up"](x),)  # type: ignore[method-assign]
    x = torch.rand(1, 4, 16, 16)
    expected = module(x)[0].detach()
    samples = (lambda: [(x,), (1 - x,)]) if dtype == "int8" else None
    backend = OpenVinoBackend(dtype, None)
    kinds = [node.get_type_name() for node in backend.model(lambda: module, (x,), samples).get_ops()]
    graph = backend.build("k", lambda: module, (x,), samples)
    assert (kinds.count("ConvolutionBackpropData"), kinds.count("Interpolate")) == (transposed, 1 - transposed)
    torch.testing.assert_close(graph(x)[0], expected, rtol=0, atol=1e-3 if dtype == "float32" else 0.05)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x), x * 0 + x.shape[0]


class Handing(nn.Module):
    """A picture and a text to a picture and a hidden state."""

    def forward(self, x: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        return x + text.mean(), 2 * x


class Taking(nn.Module):
    def forward(self, x: Tensor, text: Tensor, hidden: Tensor) -> tuple[Tensor]:
        return (x + hidden + text.mean(),)


def test_hidden_states_pass_from_graph_to_graph_in_bfloat16() -> None:
    x, text = torch.rand(1, 2, 4, 4), torch.rand(1, 3, 5)
    backend = OpenVinoBackend("bfloat16", None)
    handing = backend.build("h", Handing, (x, text))
    taking = backend.build("t", Taking, (x, text, x))
    kept = [handing(value, text) for value in (x, -x)]
    for value, (out, hidden) in zip((x, -x), kept, strict=True):
        assert (out.dtype, hidden.dtype) == (torch.float32, torch.bfloat16)
        torch.testing.assert_close(hidden.float(), 2 * value, rtol=1e-2, atol=1e-2)  # not overwritten by the later call
        for given in (hidden, 2 * value, hidden[None][:, 0]):  # bfloat16, float32, a view
            torch.testing.assert_close(taking(value, text, given)[0], 3 * value + text.mean(), rtol=2e-2, atol=3e-2)
    plain = OpenVinoBackend("float32", None).build("h", Handing, (x, text))
    assert plain(x, text)[1].dtype == torch.float32


def test_the_timed_graph_is_convolutions_in_the_requested_precision() -> None:
    for kind in ("f32", "bf16"):
        (result,) = convolutions(kind, 8, 16)().to_tuple()  # type: ignore[attr-defined]
        assert result.shape == (1, 8, 16, 16) and np.isfinite(result).all() and result.std() > 0


@pytest.mark.long
def test_int8_draws_nearly_the_reference_picture_and_is_kept_on_disk(
    calibrated: Path, reference: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantise, run, quantised, used = openvino_backend._quantised, Graphs.run, [], set()

    def counted(model: Any, samples: Any) -> Any:
        quantised.append(model)
        return quantise(model, samples)

    def noted(graphs: Graphs, part: str, inputs: Any, branch: int | None = None, chunks: int = 1) -> Any:
        used.add((part, chunks))
        return run(graphs, part, inputs, branch, chunks)

    monkeypatch.setattr(openvino_backend, "_quantised", counted)
    monkeypatch.setattr(Graphs, "run", noted)
    first = picture(calibrated, "openvino", "int8", tmp_path)
    assert len(quantised) == 2 and {("full", 1), ("decode", 1)} <= used, "the graphs that draw the picture, not only others"
    assert 0.0 < np.abs(first.astype(float) - reference).mean() < 8.0  # grey levels; equal would mean that nothing was quantised
    monkeypatch.setattr("nncf.quantize", None)
    again = picture(calibrated, "openvino", "int8", tmp_path)
    assert np.abs(again.astype(float) - first).mean() < 0.5  # what is left in floats is kept in float16
