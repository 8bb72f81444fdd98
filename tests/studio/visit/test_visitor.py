"""Waiting for a place over real sockets: the line, who leaves it, and turns that end."""

from __future__ import annotations

import asyncio

import pytest

from studio.wire.limits import Limits
from tests.studio.harness import Peer, coloured, connected, joined, serving

GREY = coloured(100, 100, 100)


async def wait_in_line(peer: Peer) -> dict[str, object]:
    await peer.send("hello", protocol=1, picture={"format": "png"}, wait=True)
    return await peer.next_text("waiting", "welcome", "error")


async def test_a_visitor_waits_pings_and_gets_the_place_that_becomes_free() -> None:
    with serving(Limits(max_sessions=1)) as running:
        async with joined(running) as first, connected(running) as second, connected(running) as third:
            place = await wait_in_line(second)
            assert 0.0 < float(str(place.pop("wait_s"))) <= 120.0
            assert place == {"type": "waiting", "place": 1, "of": 1, "turn_s": 120.0}, "a view only where the operator allows it"
            assert (await wait_in_line(third))["place"] == 2
            assert (await second.next_text("waiting"))["of"] == 2
            await second.send("ping", t=3.5)
            assert await second.next_text("pong") == {"type": "pong", "t": 3.5}
            await first.send("bye")
            assert (await second.next_text("welcome", "error"))["type"] == "welcome"
            assert (await third.next_text("waiting"))["place"] == 1
            assert (await second.round(GREY)).verdict == "generated", "frames after the wait are served"


async def test_a_client_that_leaves_is_removed_from_the_line() -> None:
    with serving(Limits(max_sessions=1)) as running:
        async with joined(running), connected(running) as last:
            async with connected(running) as gone, connected(running) as polite:
                await wait_in_line(gone)
                await wait_in_line(polite)
                assert (await wait_in_line(last))["place"] == 3
                await polite.send("bye")
                assert (await last.next_text("waiting"))["place"] == 2
            assert (await last.next_text("waiting"))["place"] == 1
        assert len(running.hub.line) == 0


async def test_no_client_passes_the_line_and_a_full_line_is_refused() -> None:
    with serving(Limits(max_sessions=1, max_waiting=1)) as running:
        async with joined(running), connected(running) as waiting:
            await wait_in_line(waiting)
            for wait in (False, True):
                async with connected(running) as late:
                    await late.send("hello", protocol=1, wait=wait)
                    assert (await late.next_text("welcome", "error", "waiting"))["code"] == "full"
                    assert (await late.closed())[0] == 4503


async def test_a_turn_ends_while_others_wait_and_its_place_is_the_next_ones() -> None:
    with serving(Limits(max_sessions=1, turn_s=0.2, warning_s=0.5, telemetry_s=0.1)) as running:
        async with joined(running) as first, connected(running) as second:
            await asyncio.sleep(0.4)
            await first.round(GREY)  # the line is empty: no turn ends
            await wait_in_line(second)
            turn = await first.next_text("turn")
            assert 0 < turn["ends_in_s"] <= 0.5 and turn["waiting"] == 1
            assert (await first.closed())[0] == 4460
            assert (await second.next_text("welcome"))["resumed"] is False
            async with connected(running) as back:
                await back.send("hello", protocol=1, resume=first.welcome["resume"])
                assert (await back.next_text("error"))["code"] == "resume_expired"


async def test_an_end_is_taken_back_when_the_line_is_empty_again() -> None:
    with serving(Limits(max_sessions=1, turn_s=5.0, warning_s=5.0, telemetry_s=0.1)) as running:
        async with joined(running) as first:
            async with connected(running) as second:
                await wait_in_line(second)
                assert "ends_in_s" in await first.next_text("turn")
            while "ends_in_s" in (turn := await first.next_text("turn")):
                pass
            assert turn == {"type": "turn", "waiting": 0}


@pytest.mark.parametrize("message", ['{"type": "settings", "patch": {}}', "nonsense", b"\x00"])
async def test_a_waiting_client_may_send_nothing_else(message: str | bytes) -> None:
    with serving(Limits(max_sessions=1)) as running:
        async with joined(running), connected(running) as visitor:
            await wait_in_line(visitor)
            await visitor.socket.send(message)
            assert (await visitor.next_text("error"))["code"] == "bad_message"
            assert (await visitor.closed())[0] == 4400
