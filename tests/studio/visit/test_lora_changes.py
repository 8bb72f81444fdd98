"""LoRAs changed in place: for all sessions or for none, on one device or several."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import LoraUse, ModelError, StreamSpec
from studio.model.change import ChangeRule
from studio.model.fleet import Fleet
from studio.visit import lora_changes
from tests.studio.fake import FakePipeline
from tests.studio.harness import GREY, TOKEN, joined
from tests.studio.visit.spec_changes import change, serving_factory

INK = LoraUse("ink.safetensors", 0.5)


class Adapted(FakePipeline):
    """A fake whose LoRAs change in place; a weight of 4 cannot be made."""

    def lora_change(self, spec: StreamSpec, offline: bool = False) -> Any:
        assert offline, "what a visitor names is never downloaded"
        return spec if replace(spec, loras=()) == replace(self.spec, loras=()) else None

    def change_loras(self, change: StreamSpec) -> StreamSpec:
        if any(use.weight == 4.0 for use in change.loras):
            raise ModelError("ink.safetensors: is too strong")
        back, self.spec = self.spec, change
        return back


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    made = Fleet(Adapted, [StreamSpec(width=128, height=128)] * 2, lambda: 0.0)  # type: ignore[arg-type]
    made.start(lambda sessions: None)
    for owner in made.owners:
        owner.loaded.result(10)
    yield made
    made.close()


async def test_all_devices_change_and_the_change_reaches_every_session(fleet: Fleet) -> None:
    for name in "ab":
        fleet.assign(name)
    reached: queue.Queue[str] = queue.Queue()
    specs = [replace(pipeline.spec, loras=(INK,)) for pipeline in fleet.pipelines()]
    changes = lora_changes.planned(fleet.pipelines(), specs)
    assert changes is not None
    await lora_changes.alter(fleet, changes, lambda sessions, lost: [reached.put(session) for session in sessions])
    assert [pipeline.spec.loras for pipeline in fleet.pipelines()] == [(INK,)] * 2
    assert sorted(reached.get(timeout=60) for _ in range(2)) == ["a", "b"]  # each device's thread reports after its change


async def test_where_one_device_fails_the_others_go_back(fleet: Fleet) -> None:
    present = [pipeline.spec for pipeline in fleet.pipelines()]
    weights = (0.5, 4.0)
    changes = [replace(spec, loras=(replace(INK, weight=weight),)) for spec, weight in zip(present, weights, strict=True)]
    with pytest.raises(ModelError, match="too strong"):
        await lora_changes.alter(fleet, changes, lambda sessions, lost: None)
    assert [pipeline.spec for pipeline in fleet.pipelines()] == present


async def test_a_closed_fleet_cancels_the_change(fleet: Fleet) -> None:
    fleet.close()
    changes = [pipeline.spec for pipeline in fleet.pipelines()]
    with pytest.raises(asyncio.CancelledError):
        await lora_changes.alter(fleet, changes, lambda sessions, lost: None)


def test_one_pipeline_that_needs_new_graphs_or_is_not_loaded_means_a_new_pipeline_for_all() -> None:
    some: list[Any] = [Adapted(StreamSpec(width=128, height=128)) for _ in range(2)]
    specs = [replace(some[0].spec, loras=(INK,)), replace(some[1].spec, width=192)]
    assert lora_changes.planned(some, specs) is None
    assert lora_changes.planned(some[:1], specs) is None
    assert lora_changes.planned(some[:1], specs[:1]) == specs[:1]


async def test_a_change_of_loras_builds_nothing_and_all_sessions_get_the_spec(tmp_path: Path) -> None:
    name = str(tmp_path / "ink.safetensors")
    Path(name).touch()
    with serving_factory(changes=ChangeRule(lora_folders=(tmp_path,))) as (factory, running):
        async with joined(running, token=TOKEN) as one, joined(running) as other:
            (pipeline,) = factory.made
            pipeline.__class__ = Adapted
            await one.round(GREY)
            for weight in (-1.0, 2.0):
                reply = await change(one, loras=[{"name": name, "weight": weight}])
                assert reply["type"] == "spec" and reply["request"] == 7
                told = await other.next_text("spec")
                assert told["spec"]["loras"] == reply["spec"]["loras"] == [{"name": name, "weight": weight}]
                assert (await one.round(GREY)).verdict == "generated"
            reply = await change(one, loras=[{"name": name, "weight": 4.0}])
            assert (reply["type"], reply["code"], reply["field"]) == ("error", "bad_spec", "loras")
            assert running.hub.spec().loras == (LoraUse(name, 2.0),)
            assert factory.made == [pipeline] and not pipeline.closed
