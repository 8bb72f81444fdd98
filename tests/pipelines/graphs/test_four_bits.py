"""int4 in OpenVINO: what is stored in four bits, and that it computes as the reference does."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipelines import SpecError, StreamSpec, load
from pipelines.graphs.backends.openvino import OpenVinoBackend
from pipelines.networks import svdquant

SIDE = 128


class Block(nn.Module):
    """A layer that is split, a convolution that is split, and one of each that is not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.proj_in, self.conv = nn.Conv2d(SIDE, SIDE, 1), nn.Conv2d(SIDE, SIDE, 3, padding=1)
        self.transformer_blocks, self.other = nn.ModuleList([nn.Linear(SIDE, SIDE)]), nn.Linear(SIDE, SIDE)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        x = self.conv(self.proj_in(x)).movedim(1, -1)
        return (self.other(self.transformer_blocks[0](x)),)


def reference(block: nn.Module) -> nn.Module:
    """The split layers with the plain reference's residuals, of weights in float16, as graphs keep all others."""
    svdquant.rewrite(block).half().float()
    for part in block.modules():
        if isinstance(part, svdquant.LowRankLinear):
            part.residual.weight.data = svdquant.quantised(part.residual.weight.data)
    return block


@torch.inference_mode()
def test_residuals_alone_are_in_four_bits_and_compute_as_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    block, x = Block().eval(), torch.randn(1, SIDE, 8, 8)
    backend = OpenVinoBackend("float32", None, in_four_bits=True)
    nodes = backend.model(lambda: copy.deepcopy(block), (x,)).get_ops()
    constants = [node for node in nodes if node.get_type_name() == "Constant" and len(node.get_output_shape(0)) > 1]
    kinds = {node.get_friendly_name().removesuffix("_compressed"): node.get_element_type().get_type_name() for node in constants}
    four = {name for name, kind in kinds.items() if kind == "i4"}
    assert four == {"self.proj_in.residual.weight", "self.transformer_blocks.0.residual.weight"}
    assert {kind for name, kind in kinds.items() if name not in four} == {"f16"}, "all else is as in other graphs"
    (found,) = backend.build("k", lambda: copy.deepcopy(block), (x,))(x)
    plain, wanted = block(x)[0], reference(copy.deepcopy(block))(x)[0]
    loss = (wanted - plain).norm()
    # NNCF's scales are float16, so a value between two levels may go to the other one.
    assert (found - wanted).norm() < 0.15 * loss
    assert loss > 0.01 * plain.norm()
    assert capsys.readouterr().out == "", "NNCF draws no progress bars"


def test_the_autoencoder_stays_in_floats() -> None:
    block, x = Block().eval(), torch.randn(1, SIDE, 8, 8)
    block.lane = "decode"
    nodes = OpenVinoBackend("float32", None, in_four_bits=True).model(lambda: block, (x,)).get_ops()
    assert not [node for node in nodes if node.get_element_type().get_type_name() == "i4"]


def test_int4_is_refused_for_a_model_that_is_too_small(mini_model: Path) -> None:
    with pytest.raises(SpecError, match=r"dtype: int4 needs linear or 1 x 1 layers of 128 channels and more in a UNet"):
        load(StreamSpec(str(mini_model), 128, 128, "openvino", "int4", device="cpu"), warm=False)
