"""Several devices in one process: where sessions are placed, and that each stays with its own model."""

from __future__ import annotations

import queue
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import Frame, Settings, StreamPipeline, StreamSpec, load
from studio.model.fleet import Fleet
from studio.model.jobs import Job, JobResult
from studio.model.placement import Load, least_loaded
from tests.studio.fake import FakePipeline
from tests.studio.harness import TOKEN, coloured, joined, serving


@given(st.integers(1, 8), st.integers(0, 60))
def test_equal_sessions_are_spread_evenly(devices: int, sessions: int) -> None:
    counts = [0] * devices
    for _ in range(sessions):
        counts[least_loaded([Load(count, 0, 0.0) for count in counts])] += 1
    assert max(counts) - min(counts) <= 1


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.floats(0.001, 1.0)), min_size=1, max_size=6))
def test_the_placed_device_needs_the_least_time(given: list[tuple[int, int, float]]) -> None:
    loads = [Load(known + new, known, known * each) for known, new, each in given]
    chosen = least_loaded(loads)
    measured = [load for load in loads if load.known]
    mean = sum(load.seconds for load in measured) / sum(load.known for load in measured) if measured else 1.0
    times = [
        load.seconds + (load.sessions - load.known + 1) * (load.seconds / load.known if load.known else mean) for load in loads
    ]
    assert times[chosen] == min(times)


def test_heavy_sessions_and_slow_devices_count_for_more() -> None:
    assert least_loaded([Load(1, 1, 0.080), Load(2, 2, 0.040)]) == 1
    assert least_loaded([Load(2, 2, 0.080), Load(3, 3, 0.030)]) == 1
    assert least_loaded([Load(2, 2, 0.020), Load(0, 0, 0.0)]) == 1
    assert least_loaded([Load(1, 0, 0.0), Load(1, 0, 0.0)]) == 0
    with pytest.raises(ValueError):
        least_loaded([])


class Yard:
    """A fleet of two fake models, and what came back from it."""

    def __init__(self) -> None:
        self.made: list[FakePipeline] = []
        self.fleet = Fleet(self._make, [StreamSpec(width=128, height=128, device=name) for name in ("cpu", "cpu")], lambda: 0.0)
        self.back: queue.Queue[tuple[str, JobResult]] = queue.Queue()
        self.fleet.start(lambda sessions: None)
        for owner in self.fleet.owners:
            owner.loaded.result(10)

    def _make(self, spec: StreamSpec) -> Any:
        self.made.append(FakePipeline(spec))
        return self.made[-1]

    def offer(self, session: str, frame_id: int) -> Job | None:
        inputs: Any = SimpleNamespace(settings=Settings(prompt="plain"), mask=None, picture=None, picture_b=None, names=())
        frame = Frame(frame_id, 0.0, None)
        return self.fleet.offer(Job(session, inputs, frame, 0.0, lambda result: self.back.put((session, result))))


def test_each_session_stays_with_its_device() -> None:
    yard = Yard()
    for name in "abcd":
        yard.fleet.assign(name)
    for frame_id in (1, 2):
        for name in "abcd":
            yard.offer(name, frame_id)
            yard.back.get(timeout=10)
    homes = {name: yard.fleet.pipeline(name) for name in "abcd"}
    assert sorted(list(map(id, homes.values())).count(id(one)) for one in yard.made) == [2, 2]
    assert [one.opened and len(one.opened) for one in yard.made] == [2, 2]
    assert yard.fleet.neighbours("a") == {name for name in "abcd" if homes[name] is homes["a"]}
    for name in yard.fleet.neighbours("a"):
        yard.fleet.forget(name)
    yard.fleet.assign("e")
    assert yard.fleet.pipeline("e") is homes["a"]
    assert yard.offer("a", 3) is not None, "a session that is over gets its job back"
    yard.fleet.close()
    assert all(one.closed for one in yard.made)


def test_a_model_that_hangs_holds_up_nobody_of_another_device() -> None:
    yard = Yard()
    for name in "ab":
        yard.fleet.assign(name)
    stuck: Any = yard.fleet.pipeline("a")
    stuck.hold.clear()
    yard.offer("a", 1)
    assert stuck.entered.wait(10)
    yard.offer("b", 1)
    assert yard.back.get(timeout=10)[0] == "b"
    stuck.hold.set()
    assert yard.back.get(timeout=10)[0] == "a"
    yard.fleet.close()


def test_all_must_be_loaded() -> None:
    yard = Yard()
    assert yard.fleet.loaded is yard.fleet.owners[0].loaded

    def half(spec: StreamSpec) -> Any:
        if spec.device == "cpu":
            return FakePipeline(spec)
        raise OSError("no such device")

    broken = Fleet(half, [StreamSpec(device="cpu"), StreamSpec(device="cuda:7")], lambda: 0.0)
    broken.start(lambda sessions: None)
    assert isinstance(broken.owners[1].loaded.exception(10), OSError)
    assert isinstance(broken.loaded.exception(10), OSError)
    for fleet in (yard.fleet, broken):
        fleet.close()


async def test_a_server_with_two_real_engines(mini_model: Path) -> None:
    made: list[StreamPipeline] = []

    def factory(spec: StreamSpec) -> StreamPipeline:
        made.append(load(StreamSpec(str(mini_model), spec.width, spec.height, "eager", "float32", spec.device)))
        return made[-1]

    with serving(factory=factory, devices=("cpu", "cpu")) as running:
        async with joined(running) as one, joined(running) as other:
            homes = [running.hub.fleet.pipeline(peer.welcome["session"]) for peer in (one, other)]
            assert set(map(id, homes)) == set(map(id, made[:2]))
            for peer in (one, other):
                assert (await peer.round(coloured(90, 120, 30))).verdict == "generated"


async def test_a_change_of_the_spec_reaches_every_device() -> None:
    made: list[FakePipeline] = []

    def factory(spec: StreamSpec) -> Any:
        made.append(FakePipeline(spec))
        return made[-1]

    with serving(factory=factory, devices=("cpu", "cpu")) as running:
        async with joined(running, token=TOKEN) as one, joined(running) as other:
            for peer in (one, other):
                await peer.round(coloured(90, 120, 30))
            await one.send("spec", spec={"width": 192}, request=7)
            for peer in (one, other):
                told = await peer.next_text("spec", "error")
                assert told["type"] == "spec" and told["spec"]["width"] == 192
                assert (await peer.round(coloured(90, 120, 30))).verdict == "generated"
        assert len(made) == 4 and made[0].closed and made[1].closed
        assert all(one.batches for one in made), "both devices served before and after"
