"""torch.compile as a backend, against eager."""

from pathlib import Path

import torch

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
