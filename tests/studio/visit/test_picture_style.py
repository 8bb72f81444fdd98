"""Styles of pictures on the wire and from file to file: predicted from a picture, or read from the file of a style."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines import ModelError, PictureStyle, Settings, StreamPipeline, StreamSpec, load, write_style
from studio.client import StudioClient, StudioError
from studio.files import recording
from studio.files.render import Plan, render
from studio.wire import protocol
from studio.wire.limits import Limits
from tests.pipelines.engine.test_painted import LOOKS, add_painter
from tests.pipelines.engine.test_picture_prompt import add_reader
from tests.studio.harness import SIZE, TOKEN, Peer, Running, coloured, joined, serving

GREY = coloured(100, 100, 100)
STYLE = PictureStyle(np.linspace(-1, 1, 40, dtype=np.float32), "0123456789ab", "red waves", fitted=60)
RNG = np.random.default_rng(0)
PICTURE = np.kron(RNG.integers(0, 256, (5, 7, 3)), np.ones((40, 40, 1))).astype(np.uint8)


@pytest.fixture
def shared() -> Iterator[Running]:
    with serving(Limits(max_sessions=8, errors_at_once=50)) as running:
        yield running


@pytest.fixture(scope="module")
def pipeline(mini_model: Path, tmp_path_factory: pytest.TempPathFactory) -> StreamPipeline:
    model = tmp_path_factory.mktemp("style") / "model"
    shutil.copytree(mini_model, model)
    add_painter(model, LOOKS)
    add_reader(model)
    return load(StreamSpec(str(model), SIZE, SIZE, "eager", "float32"))


async def show(peer: Peer, request: int, form: str, picture: bytes) -> dict[str, object]:
    await peer.socket.send(protocol.pack_picture(request, form, picture))
    return await peer.next_text("picture", "error")


async def test_a_style_s_file_reaches_the_model(shared: Running) -> None:
    async with joined(shared) as peer:
        reply = await show(peer, 7, "style", write_style(STYLE))
        facts = {"name": "red waves", "fitted": 60}
        assert reply == {"type": "picture", "present": True, "style": facts, "request": 7}
        await peer.round(GREY)
        (seen,) = shared.pipeline.opened[-1].pictures
        assert np.array_equal(seen.numbers, STYLE.numbers) and seen.painter == STYLE.painter


async def test_a_kept_style_can_be_named_before_it_is_used_as_a_picture(shared: Running) -> None:
    async with joined(shared) as peer:
        foreign = replace(STYLE, painter="ffffffffffff", name="another's")
        for request, style in enumerate((STYLE, foreign, replace(STYLE, name=""))):
            await peer.socket.send(protocol.pack_name(request, write_style(style)))
            reply = await peer.next_text("name", "error")
            assert reply == {"type": "name", "name": style.name, "request": request}
            if style.name:
                assert "understood" in await peer.next_text("settings")
        await peer.round(GREY)
        state = shared.pipeline.opened[-1]
        assert len(state.names) == 2 and not any(picture is not None for picture in state.pictures)


@pytest.mark.parametrize("file", [b"", b"no style", write_style(STYLE)[:-3]])
async def test_a_broken_file_gives_no_name_and_a_clear_error(shared: Running, file: bytes) -> None:
    async with joined(shared) as peer:
        await peer.socket.send(protocol.pack_name(9, file))
        error = await peer.next_text("name", "error")
        assert (error["type"], error["code"], error["request"]) == ("error", "bad_picture", 9)


async def test_a_style_that_was_sent_or_kept_can_be_named_by_its_session_alone(shared: Running) -> None:
    shared.pipeline.pictures.style = lambda picture: PictureStyle(STYLE.numbers, STYLE.painter, source=picture)
    async with joined(shared) as peer, joined(shared) as other:
        await show(peer, 1, "style", write_style(STYLE))
        assert "understood" in await peer.next_text("settings")
        await show(peer, 2, "png", cv2.imencode(".png", PICTURE)[1].tobytes())
        await peer.send("keep", name="my sea", request=3)
        await peer.next_text("style")
        assert "understood" in await peer.next_text("settings")
        await show(peer, 4, "none", b"")
        await peer.round(GREY)
        names = shared.pipeline.opened[-1].names
        _, found = names.read("My Sea and red waves", STYLE.painter)
        assert [style.name for _, style in found] == ["my sea", "red waves"]
        assert all(style.source is None and not style.tile for _, style in found)
        await other.round(GREY)
        assert not len(shared.pipeline.opened[-1].names)


async def test_a_picture_that_the_painter_takes_is_read_before_any_step(shared: Running) -> None:
    shared.pipeline.pictures.style = lambda picture: PictureStyle(STYLE.numbers, STYLE.painter, source=picture)
    async with joined(shared) as peer:
        png = cv2.imencode(".png", PICTURE)[1].tobytes()
        reply = await show(peer, 8, "png", png)
        assert (reply["size"], reply["style"]) == ([448, 448], {"name": "", "fitted": 0})
        await peer.round(GREY)
        (seen,) = shared.pipeline.opened[-1].pictures
        assert isinstance(seen, PictureStyle) and seen.source is not None and seen.source.shape == (448, 448, 3)


async def test_a_style_that_is_damaged_or_of_another_painter_is_refused(shared: Running) -> None:
    def refuse(style: PictureStyle) -> None:
        raise ModelError("style: is for another painter (0123456789ab)")

    shared.pipeline.pictures.check = refuse
    data = write_style(STYLE)
    broken = data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]
    async with joined(shared) as peer:
        wrong = [(data, "another painter"), (broken, "damaged"), (b"no style", "no style's file")]
        for request, (content, reason) in enumerate(wrong):
            error = await show(peer, request, "style", content)
            assert (error["type"], error["code"], error["field"]) == ("error", "bad_picture", "picture")
            assert reason in str(error["message"]) and error["request"] == request
        assert (await peer.round(GREY)).verdict == "generated" and shared.pipeline.opened[-1].pictures == []


async def test_the_python_client_sends_a_style(shared: Running) -> None:
    async with StudioClient(f"http://{shared.host}", token=TOKEN) as client:
        await client.picture(write_style(STYLE))
        await client.frame(np.zeros((SIZE, SIZE, 3), np.uint8))
        await client.shown()
        assert shared.pipeline.opened[-1].pictures[-1].name == "red waves"
        with pytest.raises(StudioError) as caught:
            await client.picture(write_style(STYLE)[:-1])
        assert caught.value.code == "bad_picture"


def test_a_render_follows_a_picture_or_its_style_and_a_record_makes_the_same_again(
    pipeline: StreamPipeline, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), RNG.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))
    cv2.imwrite(str(tmp_path / "like.png"), cv2.resize(PICTURE, (448, 448), interpolation=cv2.INTER_NEAREST))
    style = pipeline.pictures.style(cv2.cvtColor(cv2.imread(str(tmp_path / "like.png")), cv2.COLOR_BGR2RGB))
    assert style is not None
    (tmp_path / "like.safetensors").write_bytes(write_style(style))
    settings, made = Settings().patched({"prompt": "photo"}), {}
    for name, picture in {"plain": None, "picture": "like.png", "style": "like.safetensors"}.items():
        plan = Plan(settings, picture=None if picture is None else tmp_path / picture)
        _, record = render(pipeline, plan, tmp_path / "in.png", tmp_path / f"{name}.png")
        recording.write(record, tmp_path / f"{name}.jsonl")
        made[name] = record.digest
    assert made["plain"] != made["picture"] == made["style"]
    back = recording.read(tmp_path / "style.jsonl")
    render(pipeline, Plan(back.settings, back.moments, replay=back), tmp_path / "in.png", tmp_path / "again.png")


def test_a_render_mixes_two_pictures_and_a_record_makes_the_same_again(pipeline: StreamPipeline, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), RNG.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))
    cv2.imwrite(str(tmp_path / "like.png"), PICTURE)
    table = pipeline.graphs.parts.plain_styles.numpy()
    other = PictureStyle(table[0], pipeline.graphs.parts.painter_fingerprint, "other")
    (tmp_path / "other.safetensors").write_bytes(write_style(other))
    made = {}
    for name, blend, pictures in [
        ("one", 0.0, ("like.png", None)),
        ("alone", 0.5, (None, "like.png")),
        ("first", 0.0, ("like.png", "other.safetensors")),
        ("half", 0.5, ("like.png", "other.safetensors")),
        ("second", 1.0, ("like.png", "other.safetensors")),
        ("other", 0.0, ("other.safetensors", None)),
    ]:
        first, second = (None if each is None else tmp_path / each for each in pictures)
        plan = Plan(Settings().patched({"prompt": "photo", "picture.blend": blend}), picture=first, picture_b=second)
        _, record = render(pipeline, plan, tmp_path / "in.png", tmp_path / f"{name}.png")
        recording.write(record, tmp_path / f"{name}.jsonl")
        made[name] = record.digest
    assert made["one"] == made["first"] == made["alone"] and made["second"] == made["other"]
    assert len({made["one"], made["half"], made["other"]}) == 3
    back = recording.read(tmp_path / "half.jsonl")
    render(pipeline, Plan(back.settings, back.moments, replay=back), tmp_path / "in.png", tmp_path / "again.png")


async def test_the_python_client_sends_a_second_picture_and_takes_it_back(shared: Running) -> None:
    async with StudioClient(f"http://{shared.host}", token=TOKEN) as client:
        await client.picture(write_style(STYLE), second=True)
        await client.picture(PICTURE)
        await client.frame(np.zeros((SIZE, SIZE, 3), np.uint8))
        await client.shown()
        await client.picture(None, second=True)
        await client.frame(np.zeros((SIZE, SIZE, 3), np.uint8))
        await client.shown()
    state = shared.pipeline.opened[-1]
    assert [None if each is None else each.name for each in state.seconds] == ["red waves", None]
    assert len(state.pictures) == 1 and state.pictures[0].shape == (448, 448, 3)


def test_a_render_refuses_a_style_of_another_painter(pipeline: StreamPipeline, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), np.zeros((SIZE, SIZE, 3), np.uint8))
    (tmp_path / "other.safetensors").write_bytes(write_style(STYLE))
    with pytest.raises(ModelError, match="another painter"):
        render(pipeline, Plan(Settings(), picture=tmp_path / "other.safetensors"), tmp_path / "in.png", tmp_path / "out.png")
