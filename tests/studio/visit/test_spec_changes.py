"""The changes of the spec that one connection begins: reports on each while it lasts, and errors that name their request."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from studio.visit.spec_changes import SpecChanges
from studio.wire.protocol import ProtocolError


class Hub:
    """Begins what is asked for, and refuses what is listed."""

    def __init__(self) -> None:
        self.work: list[asyncio.Future[ProtocolError | None]] = []
        self.refused: ProtocolError | None = None
        self.counted: list[str] = []
        self.metrics = SimpleNamespace(
            errors=SimpleNamespace(labels=lambda code: SimpleNamespace(inc=lambda: self.counted.append(code)))
        )

    def clock(self) -> float:
        return 7.0

    def change(self, changes: object, name: str, has_token: bool, request: int | None) -> asyncio.Future[ProtocolError | None]:
        assert (name, has_token) == ("a", True)
        if self.refused is not None:
            raise self.refused
        self.work.append(asyncio.get_running_loop().create_future())
        return self.work[-1]


class Mailbox:
    def __init__(self) -> None:
        self.posted: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def post_or_drop(self, message: str) -> None:
        self.posted.put_nowait(json.loads(message))

    async def post_blocking(self, message: str) -> None:
        self.posted.put_nowait(json.loads(message))


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def changes(hub: Hub, mailbox: Mailbox) -> SpecChanges:
    return SpecChanges(hub, SimpleNamespace(session=SimpleNamespace(name="a")), mailbox, True)  # type: ignore[arg-type]


async def test_each_change_is_reported_until_it_ends(hub: Hub, mailbox: Mailbox, changes: SpecChanges) -> None:
    changes.begin({"size": 256}, 1)
    changes.begin({"size": 384}, 2)
    first = [await mailbox.posted.get() for _ in range(2)]
    assert [(one["type"], one["request"]) for one in first] == [("building", 1), ("building", 2)]
    hub.work[0].set_result(ProtocolError("no", code="bad_spec", field="size"))
    while (found := await mailbox.posted.get())["type"] == "building":
        pass
    assert (found["type"], found["code"], found["field"], found["request"]) == ("error", "bad_spec", "size", 1)
    assert hub.counted == ["bad_spec"] and not hub.work[1].done()
    await changes.close()


async def test_all_reports_end_with_the_connection_and_the_changes_go_on(
    hub: Hub, mailbox: Mailbox, changes: SpecChanges
) -> None:
    before = asyncio.all_tasks()
    for request in (1, 2, 3):
        changes.begin({"size": 256}, request)
    for _ in range(3):
        await mailbox.posted.get()
    await changes.close()
    assert asyncio.all_tasks() == before and not any(work.cancelled() or work.done() for work in hub.work)
    assert mailbox.posted.empty()


async def test_a_refused_change_names_its_request_and_is_not_reported(hub: Hub, changes: SpecChanges) -> None:
    hub.refused = ProtocolError("locked", code="locked", field="size")
    with pytest.raises(ProtocolError) as caught:
        changes.begin({"size": 256}, 9)
    assert caught.value.request == 9
    await changes.close()
