"""The engine's loop on a device that is not the host: torch's meta device stands for it. Its tensors do not mix with the host's,
and hold no values.

So what would fail on CUDA for being on the host fails here, and so does whatever would make the host wait for a value. Networks
are stand-ins that return tensors of the right shapes.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipelines import Entry, Frame, ModelParts, Picture, Pixels, Settings, StreamPipeline, StreamSpec, describe
from pipelines.engine import engine
from pipelines.engine.device import CudaTransfer, DevicePicture
from pipelines.graphs.backends.eager import EagerBackend
from pipelines.graphs.layout import ON_GPU
from pipelines.values.types import GpuPath
from tests.fake_cuda import FakeCuda

DEVICE = torch.device("meta")
SIZE = 128
PICTURES = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3), np.uint8)


class Moves(TorchDispatchMode):
    """Refuses copies to the device that the host would wait for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and result.device != args[0].device:
            assert (kwargs or {}).get("non_blocking"), "a copy to the device that waits"
        return result


class ShapesOnly:
    """A backend whose graphs take the shapes that they are built for and return those that the real ones would."""

    name, device, layout, torch_threads = "eager", DEVICE, ON_GPU, torch.get_num_threads()

    def lanes(self, rows: int, cells: int, weights: int) -> int:
        return 1

    def build(self, key: str, make: Callable[[], nn.Module], example: Sequence[Tensor], *others: Any) -> Any:
        with torch.inference_mode():
            outputs = EagerBackend(torch.device("cpu"), torch.float32).build(key, make, example)(*example)

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            assert [value.shape for value in inputs] == [value.shape for value in example]
            for value in inputs:
                value.to(DEVICE, non_blocking=True)
            return tuple(torch.empty(value.shape, dtype=value.dtype, device=DEVICE) for value in outputs)

        return run

    def encoder(self, key: str, make: Callable[[], nn.Module], example: Sequence[Tensor]) -> Any:
        return make()  # text encoders are on the host

    def kept(self, key: str, make: Callable[[], bytes]) -> bytes:
        return make()


class FakeTransfer(CudaTransfer):
    """Pictures have no values to move; that they do is shown in test_transfer.py. Everything else is as on CUDA."""

    def __init__(self) -> None:
        self.cuda = FakeCuda()
        super().__init__(DEVICE, GpuPath(), self.cuda)
        self.downloads = 0

    def upload(self, pictures: Sequence[Pixels]) -> Tensor:
        return torch.empty((len(pictures), *pictures[0].shape), dtype=torch.uint8, device=DEVICE)

    def read(self, value: Tensor) -> Callable[[], float]:
        assert value.device == DEVICE and not value.shape
        return lambda: 1.0

    def download(self, pixels: Tensor) -> list[Picture]:
        assert pixels.device == DEVICE and pixels.dtype == torch.uint8
        self.downloads += 1
        return [DevicePicture(picture, self.cuda.Event()) for picture in pixels]


@pytest.fixture(scope="module")
def pipeline(mini_model: Path) -> Iterator[StreamPipeline]:
    """One for all tests, since each new one runs every network for the shapes of its outputs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
        patch.setattr(engine.selection, "create", lambda *arguments: ShapesOnly())
        patch.setattr(engine.device, "of", lambda device, path: FakeTransfer())
        spec = StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32", "cpu")
        yield StreamPipeline(spec, ModelParts(describe(str(mini_model))), None)


CASES = [
    {},
    {"steps": 4},
    {"steps": 2, "stream_batch.enabled": False},
    {"guidance_mode": "full", "guidance": 2.0},
    {"guidance_mode": "self", "guidance": 2.0, "steps": 3, "guidance_delta": 0.7},
    {"guidance_mode": "one-time", "guidance": 2.0, "steps": 3},
    {"guidance_mode": "adaptive", "guidance": 2.0, "steps": 2},
    {"guidance_mode": "linear", "guidance": 2.0, "steps": 3},
    {
        "guidance_mode": "one-time",
        "guidance": 2.0,
        "guidance_blur": 1.5,
        "guidance_schedule": "cosine",
        "omega_schedule": "linear",
    },
    {"cache.enabled": True},
    {"cache.enabled": True, "cache.reuse": "steps", "steps": 4},
    {"steps": 3, "solver": "ddim"},
    {"steps": 3, "solver": "dpmpp-2m"},
    {"steps": 3, "solver": "dpmpp-2m", "strength_map.mode": "motion"},
    {"omega": 0.8},
    {"strength_map.mode": "motion", "steps": 2},
    {"strength_map.mode": "mask"},
    {"noise.mode": "walk", "noise.motion": 0.5, "noise.warm_start": 0.3},
    {"prompt_b": "another", "blend": 0.5, "travel": 2.0},
    {"consistency.enabled": True},
    {"consistency.enabled": True, "steps": 3, "noise.warm_start": 0.5},
]


@pytest.mark.parametrize("patch", CASES, ids=lambda patch: " ".join(map(str, patch)) or "plain")
def test_a_stream_stays_on_the_device_and_waits_for_nothing(pipeline: StreamPipeline, patch: dict[str, Any]) -> None:
    settings = Settings().patched(patch)
    pipeline.prepare(settings, 2)
    states = [pipeline.open(settings) for _ in range(2)]
    states[0].set_mask(PICTURES[0, :, :, 0])
    outputs = []
    assert isinstance(pipeline.transfer, FakeTransfer)
    before = pipeline.transfer.downloads
    with Moves():
        for index, picture in enumerate(PICTURES):
            later = settings.patched({"prompt": "later"}) if index > 3 else settings
            outputs += pipeline.step([Entry(state, Frame(index, index / 10, picture), later) for state in states])
    shown = [output.pixels for output in outputs if output.pixels is not None]
    assert shown and all(isinstance(picture, DevicePicture) for picture in shown)
    assert pipeline.transfer.downloads - before == len(shown) / 2, "the pictures of a step come down together"
    for state in states:
        assert state.previous_x0 is not None and state.previous_x0.device == DEVICE


@pytest.mark.parametrize("patch", CASES, ids=lambda patch: " ".join(map(str, patch)) or "plain")
def test_frames_that_are_done_in_parts_stay_on_the_device_too(pipeline: StreamPipeline, patch: dict[str, Any]) -> None:
    settings = Settings().patched(patch)
    pipeline.prepare(settings, 2)
    heavy, light = pipeline.open(settings), pipeline.open(Settings())
    with Moves():
        for index, picture in enumerate(PICTURES):
            frame, cut, parts = Frame(index, index / 10, picture), None, 0
            while cut is None:
                beside = Frame(100 * index + parts, index / 10, picture)
                cut, whole = pipeline.advance([Entry(heavy, frame, settings, 1), Entry(light, beside, Settings())])
                assert whole is not None and isinstance(whole.pixels, DevicePicture)
                parts += 1
            assert parts > 1 and isinstance(cut.pixels, DevicePicture | None)
    assert heavy.previous_x0 is not None and heavy.previous_x0.device == DEVICE


@pytest.mark.parametrize("patch", [{}, {"cads.enabled": True}, {"noise.variety": 0.5}])
def test_text_to_image(pipeline: StreamPipeline, patch: dict[str, Any]) -> None:
    settings = Settings().patched(patch)
    (output,) = pipeline.step([Entry(pipeline.open(settings), Frame(0, 0.0, None), settings)])
    assert isinstance(output.pixels, DevicePicture)


def test_pictures_are_encoded_together(pipeline: StreamPipeline) -> None:
    settings = Settings()
    keys = {(key.part, key.rows) for key in pipeline.graphs_for(settings, 16)}
    assert keys >= {("encode", 1), ("encode", 16), ("decode", 16), ("full", 16), ("full", 1)}
    assert ("full", 8) not in keys and ("encode", 4) not in keys
    for key in pipeline.graphs_for(settings, 3):
        pipeline.graphs.build(key)
    states = [pipeline.open(settings) for _ in range(3)]
    outputs = pipeline.step([Entry(state, Frame(0, 0.0, PICTURES[0]), settings) for state in states])
    assert len(outputs) == 3 and all(output.pixels is not None for output in outputs), "three rows in a graph of four"
