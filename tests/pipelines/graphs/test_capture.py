import torch
from torch import Tensor

from pipelines.graphs.backends import capture
from pipelines.graphs.backends.capture import Capture
from tests.fake_cuda import FakeCuda

CPU = torch.device("cpu")


def test_a_graph_is_recorded_once_and_replayed_on_inputs_of_its_own() -> None:
    cuda, calls = FakeCuda(), []

    def call(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        calls.append((x, y))
        return x, y

    example = (torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last), torch.zeros(2, dtype=torch.int64))
    graph = Capture(call, example, CPU, "pool", cuda)
    assert len(calls) == capture.WARM_UP + 1 and len({id(x) for x, _ in calls}) == 1
    fixed = calls[0][0]
    assert fixed.data_ptr() != example[0].data_ptr() and fixed.is_contiguous(memory_format=torch.channels_last)
    (options,) = cuda.recorded
    assert options["pool"] == "pool" and options["capture_error_mode"] == "thread_local"

    # The stand-in's replay computes nothing, so an output that is an input shows what the graph would have read and handed out.
    first, number = graph(torch.full((2, 3, 4, 4), 5.0), torch.tensor([3, 4]))
    second, _ = graph(torch.full((2, 3, 4, 4), 6.0), torch.tensor([3, 4]))
    assert len(calls) == capture.WARM_UP + 1, "the callable itself is not run again"
    assert bool((first == 5.0).all()) and bool((second == 6.0).all()), "an answer survives the next call"
    assert number.tolist() == [3, 4] and fixed.data_ptr() not in (first.data_ptr(), second.data_ptr())
