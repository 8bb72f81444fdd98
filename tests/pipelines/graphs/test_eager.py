"""The plain backend: which parts of the way through a GPU its modules take."""

import torch
from torch import nn

from benchmarks import clips
from kernels.group_norm_silu import NormActivation
from pipelines.graphs.backends.eager import EagerBackend
from pipelines.values.types import GpuPath

SIZE = 128
CLIP = clips.clip("handheld", SIZE, SIZE)


def test_a_gpus_graphs_take_the_parts_of_the_path_that_are_in_use() -> None:
    class Gpu(EagerBackend):
        """Would be on CUDA; computes here."""

        def __init__(self, path: GpuPath) -> None:
            super().__init__(torch.device("cpu"), torch.float32, path)
            self.on_gpu = True
            self._memory = torch.channels_last if path.channels_last else torch.contiguous_format

    for path in (GpuPath(), GpuPath(kernels=False, channels_last=False)):
        layer = NormActivation(nn.GroupNorm(2, 8), nn.SiLU())
        convolution = nn.Conv2d(8, 8, 3)
        Gpu(path).build("k", lambda: nn.Sequential(layer, convolution), ())  # noqa: B023 - used at once
        assert layer.kernels == path.kernels
        assert convolution.weight.is_contiguous(memory_format=torch.channels_last) == path.channels_last
