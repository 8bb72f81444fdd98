"""A picture prompt over real sockets and from file to file: it reaches the model, outlives connections, and is on record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines import Settings, StreamSpec, load, media
from studio.client import StudioClient, StudioError
from studio.files import recording
from studio.files.render import Plan, render
from studio.pictures import codec
from studio.wire import protocol
from studio.wire.limits import Limits
from studio.wire.protocol import PictureEncoding
from tests.miniature import save_adapter, save_family
from tests.studio.harness import SIZE, TOKEN, Peer, Running, coloured, joined, serving

GREY = coloured(100, 100, 100)
LIMITS = Limits(max_sessions=8, max_frame_bytes=200_000, max_side=512, errors_at_once=50)
RNG = np.random.default_rng(0)
PICTURE = np.kron(RNG.integers(0, 256, (5, 7, 3)), np.ones((40, 40, 1))).astype(np.uint8)  # 200 x 280
SEEN = codec.fit(PICTURE, codec.PROMPT_SIDE, codec.PROMPT_SIDE)


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with serving(LIMITS) as running:
        yield running


def png(pixels: np.ndarray) -> bytes:
    return codec.encode(pixels, PictureEncoding("png"))


async def show(peer: Peer, request: int, form: str = "none", picture: bytes = b"") -> dict[str, object]:
    await peer.socket.send(protocol.pack_picture(request, form, picture))
    return await peer.next_text("picture", "error")


async def test_a_picture_is_acknowledged_and_holds_from_the_next_frame_on(shared: Running) -> None:
    async with joined(shared) as peer:
        assert peer.welcome["model"]["conditions"] == []
        await peer.round(GREY)
        reply = await show(peer, 41, "png", png(PICTURE))
        assert reply == {"type": "picture", "present": True, "size": [448, 448], "request": 41}
        await peer.round(GREY)
        await peer.round(GREY)
        state = shared.pipeline.opened[-1]
        assert len(state.pictures) == 1 and np.array_equal(state.pictures[0], SEEN) and state.masks == []
        assert await show(peer, 42) == {"type": "picture", "present": False, "request": 42}
        await peer.round(GREY)
        assert state.pictures[1:] == [None]


async def test_a_picture_outlives_its_connection(shared: Running) -> None:
    async with joined(shared) as peer:
        await show(peer, 1, "jpeg", codec.encode(PICTURE, PictureEncoding("jpeg", 100)))
    async with joined(shared, resume=peer.welcome["resume"]) as again:
        await again.round(GREY)
        (picture,) = shared.pipeline.opened[-1].pictures
        assert np.abs(picture.astype(int) - SEEN).mean() < 3


async def test_a_still_picture_under_the_gate_is_made_anew(shared: Running) -> None:
    async with joined(shared, settings={"gate.enabled": True, "gate.max_skip": 300}) as peer:
        assert [(await peer.round(GREY)).verdict for _ in range(3)] == ["generated", "skipped", "skipped"]
        await show(peer, 1, "png", png(PICTURE))
        assert [(await peer.round(GREY)).verdict for _ in range(2)] == ["generated", "skipped"]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (protocol.pack_picture(9, "jpeg", png(PICTURE)), "format"),
        (protocol.pack_picture(9, "png", png(PICTURE)[:-40]), "picture"),
        (protocol.pack_picture(9, "png", png(np.zeros((8, 513, 3), np.uint8))), "picture"),
        (bytes([0x52, 1, 5, 7, 9, 0, 0, 0]) + b"x", "format"),
        (bytes([0x52, 1, 5, 2, 9, 0, 0, 0]), "format"),
        (bytes([0x52, 7, 5, 0, 9, 0, 0, 0]), "header"),
        (bytes([0x52, 1, 5, 0]), None),
    ],
)
async def test_what_is_no_picture_is_refused_by_name(shared: Running, message: bytes, field: str | None) -> None:
    async with joined(shared) as peer:
        await peer.socket.send(message)
        error = await peer.next_text("picture", "error")
        assert (error["type"], error["code"], error.get("field"), error["fatal"]) == ("error", "bad_picture", field, False)
        assert error.get("request") == (None if field in (None, "header") else 9)
        assert (await peer.round(GREY)).verdict == "generated" and shared.pipeline.opened[-1].pictures == []


async def test_the_python_client_shows_a_picture(shared: Running) -> None:
    async with StudioClient(f"http://{shared.host}", token=TOKEN) as client:
        await client.picture(PICTURE)
        await client.frame(np.zeros((SIZE, SIZE, 3), np.uint8))
        await client.shown()
        assert np.array_equal(shared.pipeline.opened[-1].pictures[-1], SEEN)
        with pytest.raises(StudioError, match="512") as caught:
            await client.picture(np.zeros((4, 600, 3), np.uint8))
        assert caught.value.code == "bad_picture"


def test_a_render_follows_a_picture_and_its_record_makes_the_same_again(tmp_path: Path) -> None:
    model, adapter = save_family(tmp_path / "model", "sd15"), save_adapter(tmp_path / "adapter", "sd15")
    pipeline = load(StreamSpec(f"{model}+picture={adapter}", SIZE, SIZE, "eager", "float32"))
    cv2.imwrite(str(tmp_path / "in.png"), RNG.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))
    (tmp_path / "like.png").write_bytes(png(PICTURE))
    settings = Settings().patched({"strength": 0.7, "picture.scale": 1.0})
    made = {}
    for name, plan in {
        "plain": Plan(settings),
        "off": Plan(settings.patched({"picture.scale": 0.0}), picture=tmp_path / "like.png"),
        "on": Plan(settings, picture=tmp_path / "like.png"),
    }.items():
        _, record = render(pipeline, plan, tmp_path / "in.png", tmp_path / f"{name}.png")
        recording.write(record, tmp_path / f"{name}.jsonl")
        made[name] = record.digest
    assert made["plain"] == made["off"] != made["on"]
    back = recording.read(tmp_path / "on.jsonl")
    (moment,) = back.moments
    assert moment.picture and not moment.patch and moment.mask is None
    seen = media.read_picture(tmp_path / "like.png", codec.PROMPT_SIDE, codec.PROMPT_SIDE)
    assert np.array_equal(codec.decode_prompt(moment.picture, "png", Limits()), seen)
    render(pipeline, Plan(back.settings, back.moments, replay=back), tmp_path / "in.png", tmp_path / "again.png")
    text = (tmp_path / "on.jsonl").read_text().replace('"picture": "', '"picture": "?')
    (tmp_path / "broken.jsonl").write_text(text)
    with pytest.raises(recording.RecordingError, match="picture is no PNG"):
        recording.read(tmp_path / "broken.jsonl")
