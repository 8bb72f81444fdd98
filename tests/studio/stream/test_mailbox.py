"""What waits to be sent on one connection: three answers to a full mailbox, messages before answers, and the end."""

from __future__ import annotations

import asyncio

import pytest

from pipelines import Settings
from studio.stream.mailbox import Mailbox
from studio.stream.session import Session
from studio.wire.limits import Limits
from studio.wire.protocol import Answer, FrameMessage


def session_with(*answered: int) -> Session:
    """A session with answers to these frames in its outbox."""
    session = Session("s", Limits(credit=4), Settings())
    for frame_id in answered:
        session.receive(FrameMessage(frame_id, 0.0, "none", memoryview(b"")), 0.0)
        session.take(0.0)
        session.answer(frame_id, Answer(frame_id, 0.0, 0, 0, "generated"))
    return session


def taken(mailbox: Mailbox) -> list[object]:
    found: list[object] = []
    while (message := mailbox.get_nowait()) is not None:
        found.append(message.frame_id if isinstance(message, Answer) else message)
    return found


def test_post_or_drop_loses_the_new_message_of_a_full_mailbox() -> None:
    mailbox = Mailbox(session_with(), 2)
    for message in "abc":
        mailbox.post_or_drop(message)
    assert taken(mailbox) == ["a", "b"]


def test_post_evicting_loses_the_oldest_message_of_a_full_mailbox() -> None:
    mailbox = Mailbox(session_with(), 2)
    for message in "abc":
        mailbox.post_evicting(message)
    assert taken(mailbox) == ["b", "c"]


async def test_post_blocking_waits_for_room_and_loses_nothing() -> None:
    mailbox = Mailbox(session_with(), 2)
    await mailbox.post_blocking("a")
    await mailbox.post_blocking("b")
    third = asyncio.create_task(mailbox.post_blocking("c"))
    await asyncio.sleep(0)
    assert not third.done(), "the caller goes on reading although the replies are not read"
    assert mailbox.get_nowait() == "a"
    await third
    assert taken(mailbox) == ["b", "c"]


def test_messages_go_before_answers() -> None:
    mailbox = Mailbox(session_with(1, 2), 2)
    assert isinstance(mailbox.get_nowait(), Answer)
    mailbox.post_or_drop("spec")
    assert taken(mailbox) == ["spec", 2]


@pytest.mark.parametrize("what", ["post_or_drop", "post_evicting", "post_blocking", "answer"])
async def test_get_waits_until_something_comes(what: str) -> None:
    session = session_with()
    mailbox = Mailbox(session, 2)
    waiting = asyncio.create_task(mailbox.get())
    await asyncio.sleep(0)
    mailbox.wake()
    await asyncio.sleep(0)
    assert not waiting.done(), "nothing is there"
    if what == "answer":
        session.outbox.append(Answer(1, 0.0, 1, 0, "generated"))
        mailbox.wake()
        found = await waiting
        assert isinstance(found, Answer) and found.frame_id == 1
    else:
        posted = getattr(mailbox, what)("a")
        if posted is not None:
            await posted
        assert await waiting == "a"


async def test_a_closed_mailbox_takes_and_gives_nothing() -> None:
    """The connection before must not send what belongs to the one after it."""
    session = session_with(1)
    old, new = Mailbox(session, 2), Mailbox(session, 2)
    sending = asyncio.create_task(old.get())
    assert isinstance(await sending, Answer)
    sending = asyncio.create_task(old.get())
    await asyncio.sleep(0)
    old.close()
    session.outbox.append(Answer(2, 0.0, 2, 0, "generated"))
    old.wake()
    new.wake()
    old.post_or_drop("a")
    old.post_evicting("b")
    await old.post_blocking("c")
    for _ in range(3):
        await asyncio.sleep(0)
    assert old.get_nowait() is None and not sending.done()
    found = await new.get()
    assert isinstance(found, Answer) and found.frame_id == 2 and new.get_nowait() is None
    assert old.closed and old.get_nowait() is None
    sending.cancel()
