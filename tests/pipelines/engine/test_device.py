"""The order of things on a device, without one: who waits for whom, which buffers are written when."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines.engine.device import BUFFERS, CudaTransfer, DevicePicture, HostTransfer, UploadBuffers, of
from pipelines.values.types import GpuPath, HostPicture
from tests.fake_cuda import Event, FakeCuda, Stream

CPU = torch.device("cpu")
PICTURES = [np.full((4, 6, 3), value, np.uint8) for value in (7, 9)]


def pin(shape: Sequence[int], dtype: torch.dtype = torch.uint8) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Stream]]:
    """Tensors whose memory was kept for another stream than the one that made them."""
    calls: list[tuple[Tensor, Stream]] = []
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: calls.append((self, stream)))
    return calls


def step(transfer: CudaTransfer, cuda: FakeCuda) -> tuple[dict[str, Stream], list[DevicePicture]]:
    """A whole step: the stream of each lane, and the pictures."""
    streams: dict[str, Stream] = {}
    transfer.begin()
    with transfer.lane("encode"):
        pixels = transfer.upload(PICTURES)
        streams["encode"] = cuda.present
    with transfer.lane("denoise", pixels):
        streams["denoise"] = cuda.present
    with transfer.lane("decode", pixels):
        streams["decode"] = cuda.present
        pictures = transfer.download(pixels)
    transfer.end()
    return streams, pictures


def test_on_a_cpu_nothing_moves() -> None:
    transfer = of(CPU, GpuPath())
    assert isinstance(transfer, HostTransfer)
    transfer.begin()
    with transfer.lane("encode"):
        one, both = transfer.upload(PICTURES[:1]), transfer.upload(PICTURES)
    assert one.data_ptr() == PICTURES[0].ctypes.data and both.shape == (2, 4, 6, 3)
    assert transfer.to_device(one) is one
    (picture,) = transfer.download(one)
    assert isinstance(picture, HostPicture) and picture.numpy().ctypes.data == PICTURES[0].ctypes.data
    spent = transfer.end()
    assert spent.encode > 0.0 and spent.denoise == spent.decode == 0.0


def test_pictures_go_up_and_come_down_whole(kept: list[tuple[Tensor, Stream]]) -> None:
    cuda = FakeCuda()
    transfer = CudaTransfer(CPU, GpuPath(), cuda, pin)
    _, pictures = step(transfer, cuda)
    assert cuda.waited == [], "the host waited for a step that was only launched"
    for picture, expected in zip(pictures, PICTURES, strict=True):
        assert isinstance(picture, DevicePicture) and (picture.numpy() == expected).all()
    assert cuda.waited and all(event.options == {"blocking": True} for event in cuda.waited)


def test_each_lane_comes_after_the_one_before_and_beside_other_steps(kept: list[tuple[Tensor, Stream]]) -> None:
    cuda = FakeCuda()
    transfer = CudaTransfer(CPU, GpuPath(), cuda, pin)
    streams, _ = step(transfer, cuda)
    (first,) = transfer._steps
    for name, before in (("denoise", "encode"), ("decode", "denoise")):
        assert streams[name].after(first.marks[before][1])
    assert len({stream.number for stream in streams.values()}) == 3
    assert not streams["encode"].after(first.marks["denoise"][0]), "the next pictures may be encoded during the UNet"
    assert not streams["denoise"].after(first.marks["decode"][0])
    taken = {stream.number for _, stream in kept}
    assert taken >= {stream.number for stream in streams.values()}, "memory that crosses streams is kept for the reader"


def test_without_overlap_there_is_one_stream(kept: list[tuple[Tensor, Stream]]) -> None:
    cuda = FakeCuda()
    streams, _ = step(CudaTransfer(CPU, GpuPath(overlap=False), cuda, pin), cuda)
    assert len({stream.number for stream in streams.values()}) == 1 and len(cuda.streams) == 2


def test_without_pinned_memory_pictures_are_there_at_once(kept: list[tuple[Tensor, Stream]]) -> None:
    cuda = FakeCuda()
    _, pictures = step(CudaTransfer(CPU, GpuPath(pinned=False), cuda, pin), cuda)
    assert all(isinstance(picture, HostPicture) for picture in pictures)


def test_the_host_is_one_step_ahead_and_reports_what_is_over(kept: list[tuple[Tensor, Stream]]) -> None:
    cuda = FakeCuda()
    transfer = CudaTransfer(CPU, GpuPath(), cuda, pin)
    step(transfer, cuda)
    (first,) = transfer._steps
    assert transfer.lag == -1
    step(transfer, cuda)
    assert transfer.lag == 1, "the first step's times are reported after the second was launched"
    assert first not in transfer._steps and first.output in cuda.waited
    assert set(cuda.waited) == {first.last, first.output}, "nothing else is waited for"
    assert transfer._timings.encode == transfer._timings.denoise == transfer._timings.decode == 1.0


def test_upload_buffers_take_turns_and_wait_for_their_own_copy() -> None:
    cuda = FakeCuda()
    buffers = UploadBuffers(pin, cuda.Event)
    slots = [buffers.take((1, 2, 2, 3)) for _ in range(BUFFERS)]
    assert len({slot.buffer.data_ptr() for slot in slots}) == BUFFERS and cuda.waited == []
    assert buffers.take((1, 2, 2, 3)) is slots[0] and cuda.waited == [slots[0].copied]
    larger = buffers.take((3, 2, 2, 3))
    assert larger is not slots[1] and larger.buffer.shape[0] == 3 and slots[1].copied in cuda.waited
    assert buffers.take((1, 4, 4, 3)).buffer.shape == (1, 4, 4, 3), "another size is another buffer"
    smaller = [buffers.take((2, 2, 2, 3)) for _ in range(BUFFERS)]
    assert larger in smaller, "rows to spare do no harm"


def test_a_number_is_waited_for_when_it_is_read() -> None:
    cuda = FakeCuda()
    number = CudaTransfer(CPU, GpuPath(), cuda, pin).read(torch.tensor(0.25))
    assert cuda.waited == []
    assert number() == 0.25 and len(cuda.waited) == 1
    assert HostTransfer().read(torch.tensor(0.5))() == 0.5


def test_a_picture_waits_for_its_own_copy_alone() -> None:
    cuda = FakeCuda()
    arrived = Event(cuda)
    picture = DevicePicture(torch.zeros(2, 2, 3, dtype=torch.uint8), arrived)
    assert cuda.waited == []
    assert picture.numpy().shape == (2, 2, 3) and cuda.waited == [arrived]
