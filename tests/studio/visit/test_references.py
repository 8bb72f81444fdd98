"""The probe's unaccelerated pictures over a real socket: only to clients that requested them, and only for this connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from studio.pictures import codec
from studio.wire import protocol
from studio.wire.limits import Limits
from studio.wire.protocol import FRAME_HEADER, KIND_REFERENCE, ProtocolError
from tests.studio.harness import SIZE, Peer, Running, coloured, joined, serving

GREY = coloured(100, 100, 100)
PROBED = {"probe.enabled": True, "prompt": "red"}


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with serving(Limits(max_sessions=4)) as running:
        yield running


async def binaries(peer: Peer, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        message = await asyncio.wait_for(peer.socket.recv(), 10)
        if isinstance(message, bytes):
            found.append(message)
    return found


async def test_the_reference_comes_before_the_answer_of_its_frame(shared: Running) -> None:
    async with joined(shared, settings=PROBED) as peer:
        await peer.send("references", wanted=True)
        assert await peer.next_text("references") == {"type": "references", "wanted": True}
        frame_id = await peer.send_frame(GREY, captured_at=2.5)
        first, second = await binaries(peer, 2)
        magic, version, kind, form, of, captured_at = FRAME_HEADER.unpack_from(first)
        assert (magic, version, kind, of, captured_at) == (0x52, 1, KIND_REFERENCE, frame_id, 2.5)
        picture = codec.decode(memoryview(first)[FRAME_HEADER.size :], protocol.FORMATS[form], SIZE, SIZE, Limits())
        assert np.abs(picture.astype(int) - 100).max() <= 1, "grey, as it was sent: the fake's reference has no tint"
        assert protocol.parse_answer(second).frame_id == frame_id


async def test_no_other_client_gets_it(shared: Running) -> None:
    async with joined(shared, settings=PROBED) as peer:
        await peer.send("references", wanted=True)
        await peer.send("references", wanted=False)
        await peer.send_frame(GREY)
        (only,) = await binaries(peer, 1)
        assert protocol.parse_answer(only).verdict == "generated"
        await peer.send("references", wanted=True)
    async with joined(shared, resume=peer.welcome["resume"]) as again:
        await again.send_frame(GREY)
        (only,) = await binaries(again, 1)
        assert protocol.parse_answer(only).verdict == "generated"


async def test_identical_pictures_are_reported_as_100_db_and_the_connection_stays(shared: Running) -> None:
    async with joined(shared, settings={"probe.enabled": True, "prompt": "as it is"}) as peer:
        answer = await peer.round(GREY)
        assert (answer.ssim, answer.psnr) == (1.0, 100.0)
        telemetry = await peer.next_text("telemetry")
        assert telemetry["quality"]["psnr"] == 100.0
        assert (await peer.round(GREY)).verdict == "generated"


def test_the_message_is_checked() -> None:
    assert protocol.parse_text('{"type": "references", "wanted": false}') == protocol.References(False)
    for text in (
        '{"type": "references"}',
        '{"type": "references", "wanted": 1}',
        '{"type": "references", "wanted": true, "x": 1}',
    ):
        with pytest.raises(ProtocolError):
            protocol.parse_text(text)
