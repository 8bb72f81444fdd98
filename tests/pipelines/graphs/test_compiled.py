"""torch.compile as a backend, against eager."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import clips
from pipelines import ModelParts, describe
from pipelines.graphs.backends.compiled import CompileBackend
from pipelines.graphs.backends.eager import EagerBackend
from pipelines.networks.pixels import DecodePixels

SIZE = 128
CLIP = clips.clip("handheld", SIZE, SIZE)


def test_torch_compile_computes_what_eager_does(mini_model: Path) -> None:
    """On an autoencoder rather than the UNet: Inductor's C++ takes half a minute for the miniature UNet, three seconds for
    this.
    """
    vae = ModelParts(describe(str(mini_model))).vae
    latents = (torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0)),)
    built = [
        kind(torch.device("cpu"), torch.float32).build("k", lambda: DecodePixels(vae), latents)
        for kind in (EagerBackend, CompileBackend)
    ]
    with torch.inference_mode():
        eager, compiled = (graph(*latents)[0] for graph in built)
    assert eager.dtype == compiled.dtype == torch.uint8
    assert (eager.int() - compiled.int()).abs().max() <= 1


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layer(x),)


def test_weights_that_are_changed_in_place_are_those_of_the_compiled_graph() -> None:
    torch.manual_seed(0)
    module, x = Convolution(), torch.randn(1, 4, 8, 8)
    graph = CompileBackend(torch.device("cpu"), torch.float32).build("k", lambda: module, (x,))
    with torch.inference_mode():
        before = graph(x)[0]
    weight = module.layer.weight.data
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape))
    with torch.inference_mode(), torch._dynamo.config.patch(error_on_recompile=True):
        after = graph(x)[0]
        torch.testing.assert_close(after, F.conv2d(x, weight, module.layer.bias, padding=1), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(before, after, atol=1e-2)
