"""One graph at a time in a process, in whatever thread it is built."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import torch
from torch import Tensor, nn

from pipelines.graphs.backends.base import Graph, Samples
from pipelines.graphs.backends.building import Builder, FairLock
from pipelines.graphs.backends.compiled import CompileBackend
from pipelines.graphs.backends.eager import EagerBackend
from pipelines.graphs.backends.openvino import OpenVinoBackend

LIMIT_S = 60


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4)) for _ in range(4)))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layers(x),)


def test_two_threads_convert_different_graphs_at_once() -> None:
    """Tracing in two threads fails: 3 of 3 changes of the spec while graphs were built, with a RuntimeError."""
    start = threading.Barrier(2, timeout=LIMIT_S)
    x = torch.rand(1, 4, 8, 8)

    def build(seed: int) -> None:
        backend = OpenVinoBackend("float32", None)
        for turn in range(3):
            module = Network().eval()
            start.wait()
            result = backend.build(f"{seed} {turn}", lambda: module, (x,))(x)[0]  # noqa: B023 - used at once
            torch.testing.assert_close(result, module(x)[0].detach(), rtol=0, atol=1e-2)

    with ThreadPoolExecutor(2) as threads:
        for work in [threads.submit(build, seed) for seed in range(2)]:
            work.result()


@pytest.mark.parametrize("kind", [OpenVinoBackend, EagerBackend, CompileBackend])
def test_no_backend_builds_by_itself(kind: type) -> None:
    assert issubclass(kind, Builder) and kind.build is Builder.build


class Slow(Builder):
    """Says how many threads were in it at most; each waits until `others` wait for the turn."""

    def __init__(self, waiting: threading.Event) -> None:
        self.inside, self.most, self.waiting = 0, 0, waiting

    def _build(
        self, key: str, make: Callable[[], nn.Module], example: Sequence[Tensor], samples: Samples | None, lanes: int
    ) -> Graph:
        self.inside += 1
        self.most = max(self.most, self.inside)
        assert self.waiting.wait(LIMIT_S)
        self.inside -= 1
        return lambda *inputs: inputs


def test_the_turn_is_one_of_the_process_not_of_a_backend() -> None:
    requested = threading.Event()
    one, other = Slow(requested), Slow(requested)

    def second() -> None:
        requested.set()
        other.build("k", nn.Identity, ())

    entered = threading.Event()
    thread = threading.Thread(target=second)
    original = one._build

    def first(*args: object) -> Graph:
        thread.start()
        entered.set()
        graph = original(*args)  # type: ignore[arg-type]
        assert not other.most, "the second has to wait"
        return graph

    one._build = first  # type: ignore[method-assign]
    one.build("k", nn.Identity, ())
    thread.join(LIMIT_S)
    assert entered.is_set() and (one.most, other.most) == (1, 1)


class Tupled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layer(x),)


def test_graphs_of_one_row_compute_in_one_pool_of_threads() -> None:
    """Each had a pool of its own: 184 threads after six minutes of one visitor."""
    backend, x, process = OpenVinoBackend("float32", None), torch.rand(1, 3), psutil.Process()
    graphs = [backend.build("0", lambda: Tupled(), (x,))]
    graphs[0](x)
    before = process.num_threads()
    for index in range(8):
        graphs.append(backend.build(str(index), lambda: Tupled(), (x,)))
        graphs[-1](x)
    assert process.num_threads() - before <= 8, "one each, which waits"


def test_the_lock_is_reentrant() -> None:
    turn = FairLock()
    with turn.held(), turn.held():
        pass
    with turn.held():
        pass


def test_a_turn_ends_with_an_error() -> None:
    turn = FairLock()
    with pytest.raises(ValueError, match="why"), turn.held():
        raise ValueError("why")
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(_takes, turn).result(LIMIT_S)


def _takes(turn: FairLock) -> bool:
    with turn.held():
        return True


def test_a_thread_that_locks_again_and_again_starves_no_other() -> None:
    """A queue of graphs is worked off by one thread, one turn after the other; a change of the spec comes in between."""
    turn, served, waits = FairLock(), threading.Event(), threading.Event()

    def other() -> None:
        waits.set()
        with turn.held():
            served.set()

    thread = threading.Thread(target=other)
    turns = 0
    while not served.is_set() and turns < 10_000:
        with turn.held():
            turns += 1
            if turns == 1:
                thread.start()
                assert waits.wait(LIMIT_S)
    assert served.wait(LIMIT_S)
    thread.join(LIMIT_S)
