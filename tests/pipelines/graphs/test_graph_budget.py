"""Memory of compiled graphs: bounded, oldest use first, and whatever is not built, frames are made."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import Entry, Frame, GraphLimits, MemoryShortError, Settings, StreamSpec, load
from pipelines.engine import engine
from pipelines.graphs import memory
from pipelines.graphs.graph_budget import ReadyGraphs, to_evict
from pipelines.graphs.keys import ALWAYS_READY

SIZE = 128
GREY = np.full((SIZE, SIZE, 3), 128, np.uint8)


@given(
    st.dictionaries(st.integers(0, 9), st.integers(1, 50)),
    st.dictionaries(st.integers(0, 9), st.integers(1, 100)),
    st.frozensets(st.integers(0, 9)),
    st.integers(0, 80),
    st.integers(0, 200),
)
def test_which_graphs_are_evicted(
    sizes: dict[int, int], used: dict[int, int], stay: frozenset[int], wanted: int, budget: int
) -> None:
    gone = to_evict(sizes, used, stay, wanted, budget)
    fixed = sum(size for key, size in sizes.items() if key in stay)
    if gone is None:
        assert fixed + wanted > budget, "refused only where what has to stay leaves no room"
        return
    assert not set(gone) & stay and len(set(gone)) == len(gone)
    rest = {key: size for key, size in sizes.items() if key not in gone}
    assert sum(rest.values()) + wanted <= budget
    free = rest.keys() - stay
    if gone and free:
        assert max(used.get(key, 0) for key in gone) <= min(used.get(key, 0) for key in free), "least recently used first"
    if gone:
        assert sum(rest.values()) + sizes[gone[-1]] + wanted > budget, "and no more than have to"


def graph() -> Callable[..., tuple[object, ...]]:
    return lambda *inputs: inputs


def ready(budget: int, *names: str, size: int = 10) -> ReadyGraphs[str]:
    graphs: ReadyGraphs[str] = ReadyGraphs(lambda key: key == "plain", budget)
    for name in names:
        assert graphs.room(name, size)
        graphs.add(name, graph(), size)  # type: ignore[arg-type]
    return graphs


def test_the_least_recently_used_graph_leaves() -> None:
    graphs = ready(30, "a", "b", "c")
    graphs.take("a")
    assert graphs.room("d", 10)
    assert ["b" in graphs, "a" in graphs, "c" in graphs] == [False, True, True] and graphs.bytes == 20


def test_what_is_needed_stays_and_nothing_thrashes(caplog: pytest.LogCaptureFixture) -> None:
    graphs = ready(30, "a", "b", "c")
    graphs.need(["a", "b", "c", "d"])
    for _ in range(5):
        assert not graphs.room("d", 10), "all that is needed is more than there is memory for"
    assert all(name in graphs for name in "abc")
    assert len(caplog.records) == 1 and "d is not built" in caplog.text, "it is logged once"
    graphs.need(["d", "a"])
    assert graphs.room("d", 10) and "a" in graphs and "b" not in graphs


def test_no_graph_is_evicted_for_one_that_no_session_needs_yet() -> None:
    graphs = ready(30, "a", "b")
    assert graphs.room("c", 10, ahead=True)
    graphs.add("c", graph(), 10)  # type: ignore[arg-type]
    assert not graphs.room("d", 10, ahead=True) and graphs.bytes == 30


def test_the_plain_ones_are_always_kept() -> None:
    graphs = ready(0)
    assert graphs.room("plain", 1000)
    graphs.add("plain", graph(), 1000)  # type: ignore[arg-type]
    assert not graphs.room("a", 10) and "plain" in graphs and graphs.bytes == 0


def test_a_running_step_keeps_what_it_began_with() -> None:
    graphs = ready(10, "a")
    evicted = weakref.ref(graphs.take("a"))
    with graphs.step():
        assert graphs.room("b", 10)
        assert "a" not in graphs and graphs.has("a") and graphs.take("a") is evicted()
    gc.collect()
    assert evicted() is None and not graphs.has("a"), "then its memory is free"


def test_frames_are_made_without_memory_for_any_more_graphs(mini_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipeline = load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"), graphs=GraphLimits(memory=0))
    settings = Settings().patched({"cache.enabled": True, "steps": 2})
    pipeline.prepare(settings, sessions=4)
    assert {key for key in pipeline.graphs_for(settings, 4) if pipeline.graphs.ready(key)} <= ALWAYS_READY
    assert pipeline.graphs.bytes == 0 and "is not built" in caplog.text
    states = [pipeline.open(settings) for _ in range(3)]
    for index in range(4):
        answers = pipeline.step([Entry(state, Frame(index, float(index), GREY), settings) for state in states])
    assert all(answer.pixels is not None for answer in answers)
    pipeline.close()


def test_one_session_that_tries_many_settings_stays_within_the_budget(mini_model: Path) -> None:
    spec = StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32")
    everything = load(spec)
    walk = [
        Settings().patched({"steps": steps, "cache.enabled": True, "cache.branch": branch})
        for steps in (1, 2, 3, 4)
        for branch in range(2)
    ]
    for settings in walk:
        everything.prepare(settings)
    most = everything.graphs.bytes
    everything.close()
    pipeline = load(spec, graphs=GraphLimits(memory=most // 3))
    for settings in walk * 2:
        pipeline.prepare(settings)
        assert pipeline.graphs.bytes <= most // 3
    assert pipeline.graphs.bytes > most // 6, "what there is memory for is there"
    pipeline.close()


def test_the_pre_flight_counts_required_memory(mini_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32")
    monkeypatch.setattr(engine.memory, "free_bytes", lambda place: 4_000_000_000)
    with pytest.raises(MemoryShortError, match="free"):
        load(spec, graphs=GraphLimits(memory=5_000_000_000))
    assert load(spec, graphs=GraphLimits(memory=1_000_000_000)).graphs.resident.budget == 1_000_000_000
    assert load(spec).graphs.resident.budget == 1_000_000_000, "a fourth of what is free"


@pytest.mark.parametrize(
    ("own_gb", "free_gb", "expected_gb"),
    [(0.5, 22, 1.25), (0.5, 4, 1.0), (8.0, 100, 16.0), (8.0, 40, 10.0), (0.5, 1000, 1.25), (1.0, 0, 0.0)],
    ids=["small-model", "little-free", "large-model", "large-model-little-free", "huge-machine", "nothing-free"],
)
def test_the_default_budget_follows_the_model_and_never_takes_the_machine(
    own_gb: float, free_gb: float, expected_gb: float
) -> None:
    needs = (memory.Need("cpu", 10**12, 0), memory.Need("cuda:0", int(own_gb * 1e9), 0))  # the last place is where it runs
    assert memory.default_graphs(needs, int(free_gb * 1e9)) == expected_gb * 1e9
