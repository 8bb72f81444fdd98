"""The picture for viewers beside the session's own connection."""

from __future__ import annotations

import asyncio

from studio.stream.latest_picture import LatestPicture


async def test_every_viewer_is_woken_and_reads_the_newest() -> None:
    latest = LatestPicture()
    assert latest.picture is None
    one, other = latest.subscribe(), latest.subscribe()
    latest.publish("jpeg", b"1")
    latest.publish("png", b"2")
    async with asyncio.timeout(5):
        await one.wait()
        await other.wait()
    assert latest.picture == ("png", b"2")


def test_a_reader_that_has_left_is_not_woken() -> None:
    latest = LatestPicture()
    one, other = latest.subscribe(), latest.subscribe()
    latest.unsubscribe(one)
    latest.wake_viewers()
    assert other.is_set() and not one.is_set() and latest.picture is None
