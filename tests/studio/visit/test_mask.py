"""A painted strength map over real sockets: it reaches the model and outlives connections; what is no mask is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines import StreamSpec, load
from studio.client import StudioClient, StudioError, file_transfer
from studio.pictures import codec
from studio.wire import protocol
from studio.wire.limits import Limits
from studio.wire.protocol import PictureEncoding
from tests.studio.harness import SIZE, TOKEN, Peer, Running, coloured, joined, serving

GREY = coloured(100, 100, 100)
LIMITS = Limits(max_sessions=8, max_mask_bytes=20_000, max_mask_side=256, errors_at_once=50)
MASK = np.random.default_rng(0).integers(0, 256, (50, 70), dtype=np.uint8)


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with serving(LIMITS) as running:
        yield running


def png(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


async def paint(peer: Peer, request: int, picture: bytes) -> dict[str, object]:
    await peer.socket.send(protocol.pack_mask(request, picture))
    return await peer.next_text("mask", "error")


async def test_a_mask_is_acknowledged_and_holds_from_the_next_frame_on(shared: Running) -> None:
    async with joined(shared) as peer:
        await peer.round(GREY)
        assert await paint(peer, 41, png(MASK)) == {"type": "mask", "present": True, "size": [70, 50], "request": 41}
        await peer.round(GREY)
        await peer.round(GREY)
        (mask,) = shared.pipeline.opened[-1].masks
        assert np.array_equal(mask, MASK)
        assert await paint(peer, 42, b"") == {"type": "mask", "present": False, "request": 42}
        await peer.round(GREY)
        assert shared.pipeline.opened[-1].masks[1:] == [None]


async def test_colour_is_turned_to_grey(shared: Running) -> None:
    async with joined(shared) as peer:
        white_left = np.zeros((8, 16, 4), np.uint8)
        white_left[:, :8] = 255
        assert (await paint(peer, 1, png(white_left)))["size"] == [16, 8]
        await peer.round(GREY)
        assert np.array_equal(shared.pipeline.opened[-1].masks[-1], white_left[..., 0])


async def test_a_mask_outlives_its_connection_and_a_failing_model(shared: Running) -> None:
    async with joined(shared) as peer:
        await paint(peer, 1, png(MASK))
    async with joined(shared, resume=peer.welcome["resume"]) as again:
        await again.round(GREY)
        first = shared.pipeline.opened[-1]
        await again.send("settings", patch={"prompt": "boom"})
        assert (await again.round(GREY)).verdict == "failed"
        await again.send("settings", patch={"prompt": "red"})
        await again.round(GREY)
        fresh = shared.pipeline.opened[-1]
        assert fresh is not first and all(np.array_equal(state.masks[0], MASK) for state in (first, fresh))


async def test_a_still_picture_under_the_gate_shows_a_new_mask(shared: Running) -> None:
    async with joined(shared, settings={"gate.enabled": True, "gate.max_skip": 300}) as peer:
        assert [(await peer.round(GREY)).verdict for _ in range(3)] == ["generated", "skipped", "skipped"]
        await paint(peer, 1, png(MASK))
        assert [(await peer.round(GREY)).verdict for _ in range(2)] == ["generated", "skipped"]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (protocol.pack_mask(9, codec.encode(np.zeros((8, 8, 3), np.uint8), PictureEncoding("jpeg"))), "format"),
        (protocol.pack_mask(9, b"no picture"), "format"),
        (protocol.pack_mask(9, png(MASK)[:-40]), "picture"),
        (protocol.pack_mask(9, png(np.zeros((8, 257), np.uint8))), "picture"),
        (protocol.pack_mask(9, png(np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8))), "picture"),
        (bytes([0x52, 1, 3, 1, 9, 0, 0, 0]) + b"x", "format"),
        (bytes([0x52, 1, 3, 2, 9, 0, 0, 0]), "format"),
        (bytes([0x52, 1, 3, 0, 9, 0, 0, 0]) + b"x", "format"),
        (bytes([0x52, 7, 3, 0, 9, 0, 0, 0]), "header"),
        (bytes([0x52, 1, 3, 0]), None),
    ],
)
async def test_what_is_no_mask_is_refused_by_name_and_changes_nothing(shared: Running, message: bytes, field: str | None) -> None:
    async with joined(shared) as peer:
        await paint(peer, 1, png(MASK))
        await peer.socket.send(message)
        error = await peer.next_text("mask", "error")
        assert (error["type"], error["code"], error.get("field"), error["fatal"]) == ("error", "bad_mask", field, False)
        assert error.get("request") == (None if field in (None, "header") else 9)
        assert (await peer.round(GREY)).verdict == "generated"
        assert np.array_equal(shared.pipeline.opened[-1].masks[-1], MASK) and len(shared.pipeline.opened[-1].masks) == 1


def test_a_mask_survives_its_png() -> None:
    assert np.array_equal(codec.decode_mask(codec.encode_mask(MASK), Limits()), MASK)
    assert np.array_equal(codec.decode_mask(codec.encode_mask(np.stack([MASK] * 3, axis=2)), Limits()), MASK)


async def test_the_python_client_paints(mini_model: Path, tmp_path: Path) -> None:
    source = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    settings = {"strength_map.mode": "mask"}
    pipeline = load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))
    with serving(factory=lambda spec: pipeline) as running:
        url, wish = f"http://{running.host}", PictureEncoding("png")
        async with StudioClient(url, token=TOKEN, settings=settings, picture=wish) as client:

            async def picture(mask: np.ndarray | None) -> np.ndarray:
                await client.mask(mask)
                await client.frame(source)
                shown = (await client.shown()).pixels
                assert shown is not None
                return shown

            plain = await picture(None)
            assert np.array_equal(await picture(np.full((9, 9), 255, np.uint8)), plain)
            assert not np.array_equal(await picture(np.zeros((9, 9, 3), np.uint8)), plain)
            with pytest.raises(StudioError, match="1024") as caught:
                await client.mask(np.zeros((4, 1025), np.uint8))
            assert caught.value.code == "bad_mask"
        (tmp_path / "mask.png").write_bytes(png(MASK))
        (tmp_path / "in.png").write_bytes(codec.encode(source, wish))
        command = [url, str(tmp_path / "in.png"), "OUT", "--token", TOKEN, "--format", "png", "--set", "strength_map.mode=mask"]
        made = []
        for name, more in (("a.png", []), ("b.png", ["--mask", str(tmp_path / "mask.png")])):
            command[2] = str(tmp_path / name)
            await file_transfer.transfer(file_transfer.parser().parse_args([*command, *more]))
            made.append((tmp_path / name).read_bytes())
        assert made[0] != made[1]
