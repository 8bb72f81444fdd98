"""Welcome, acknowledgement of settings, spec and Python client report how the prompts were read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from studio.client import StudioClient
from tests.studio.harness import TOKEN, Running, joined, serving

LISTS = ("understood", "unknown", "cut")


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving() as server:
        yield server


async def test_a_welcome_and_an_acknowledgement_have_the_lists(running: Running) -> None:
    async with joined(running, settings={"prompt": "red"}) as peer:
        report = peer.welcome["settings"]
        assert [(one["words"], one["meaning"], one["by"]) for one in report["understood"]] == [("red", "red", "name")]
        assert report["unknown"] == report["cut"] == []
        await peer.send("settings", patch={"prompt": "spreadsheet " * 4}, request=5)
        ack = await peer.next_text("settings")
        assert ack["request"] == 5 and ack["understood"] == []
        assert [one["setting"] for one in ack["unknown"]] == ["prompt"] and "spreadsheet" in ack["unknown"][0]["message"]
        assert [(one["tokens"], one["kept"] + one["lost"]) for one in ack["cut"]] == [(40, "spreadsheet " * 4)]


async def test_a_new_pipeline_reads_the_prompts_again(running: Running) -> None:
    async with joined(running, token=TOKEN, settings={"prompt": "blue"}) as peer:
        await peer.send("spec", spec={"width": 192})
        report = (await peer.next_text("spec"))["settings"]
        assert [one["meaning"] for one in report["understood"]] == ["blue"] and set(LISTS) < set(report)


async def test_the_python_client_has_the_lists_as_they_stand(running: Running) -> None:
    async with StudioClient(f"http://{running.host}", token=TOKEN, settings={"prompt": "green"}) as client:
        assert [one["meaning"] for one in client.understood["understood"]] == ["green"]
        await client.patch({"prompt": "pizza"})
        assert client.understood["understood"] == [] and client.understood["unknown"][0]["words"] == "pizza"
        assert client.values["prompt"] == "pizza"
        client.welcome["settings"] = {"version": 1, "values": {}}  # of a server that does not know of it
        assert client.understood == {name: [] for name in LISTS}
