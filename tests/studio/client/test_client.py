"""The Python client against a real server: files through it, settings, reconnecting, refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as ws_serve
from websockets.typing import Subprotocol

from pipelines import Frame, Pixels, Settings, StreamSpec, load, media
from studio.client import DecodedAnswer, StudioClient, StudioError, file_transfer, stream_url
from studio.files.render import OrderedWriter, Plan, Renderer, render
from studio.stream.stream import Stream
from studio.wire.limits import Limits
from studio.wire.protocol import SUBPROTOCOL, PictureEncoding, parse_frame
from tests.pipelines.media import makers
from tests.studio.harness import SIZE, TOKEN, Running, serving

FRAMES = 40
FILES = ("sound", "damaged", "notes")


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(Limits(max_sessions=8), step_s=0.004) as server:
        yield server


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each frame is one grey, darker than the next."""
    path = tmp_path_factory.mktemp("clips") / "greys.mp4"
    writer = media.open_writer(path, 25, SIZE, SIZE)
    for index in range(FRAMES):
        writer.write(np.full((SIZE, SIZE, 3), grey(index), np.uint8))
    writer.close()
    return path


def grey(index: int) -> int:
    return 20 + 5 * index


def levels(path: Path) -> list[float]:
    return [float(picture.mean()) for picture in media.read(path, SIZE, SIZE)]


def url(running: Running) -> str:
    return f"http://{running.host}"


def flat(value: int) -> Pixels:
    return np.full((SIZE, SIZE, 3), value, np.uint8)


async def run(running: Running, clip: Path, target: Path, *options: str) -> dict[str, object]:
    args = file_transfer.parser().parse_args([url(running), str(clip), str(target), "--token", TOKEN, *options])
    return await file_transfer.transfer(args)


@pytest.mark.parametrize("steps", [1, 3])
async def test_every_source_frame_has_its_own_picture_in_the_output(
    running: Running, clip: Path, tmp_path: Path, steps: int
) -> None:
    target = tmp_path / "out.mp4"
    result = await run(running, clip, target, "--set", f"steps={steps}", "--prompt", "plain")
    assert (result["frames"], result["generated"], result["dropped"]) == (FRAMES, FRAMES, 0)
    assert all_its_own(target)
    assert result["generated_fps"] == pytest.approx(FRAMES / result["wall_s"], rel=0.01)  # type: ignore[operator]
    latency = result["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"]  # type: ignore[index]
    assert result["size"] == f"{SIZE}x{SIZE}" and result["backend"] == "eager" and "denoise" in result["stage_ms"]  # type: ignore[operator]


def all_its_own(target: Path) -> bool:
    """Does each source frame have its own picture in its place?"""
    found = levels(target)
    return len(found) == FRAMES and all(abs(level - grey(index)) < 4 for index, level in enumerate(found))


async def test_four_files_at_once_lose_no_frame(clip: Path, tmp_path: Path) -> None:
    with serving(Limits(max_sessions=4), step_s=0.02) as busy:
        targets = [tmp_path / f"{number}.mp4" for number in range(4)]
        results = await asyncio.gather(*(run(busy, clip, target) for target in targets))
    assert [(result["generated"], result["dropped"]) for result in results] == [(FRAMES, 0)] * 4
    assert all(all_its_own(target) for target in targets)


@pytest.mark.parametrize("steps", [1, 3])
async def test_a_connection_that_breaks_loses_no_frame(clip: Path, tmp_path: Path, steps: int) -> None:
    target, broken = tmp_path / "out.mp4", 0
    with serving(step_s=0.01) as server:
        transferring = asyncio.create_task(run(server, clip, target, "--set", f"steps={steps}"))
        while not transferring.done():
            await asyncio.sleep(0)
            for seat in server.hub.seats.present():
                if broken < 2 and seat.takeover is not None and seat.session.last_id > 10 * (broken + 1):
                    broken += 1
                    for entry in list(server.admission._entries.values()):
                        server._server.servers[0].get_loop().call_soon_threadsafe(entry.drop)
        result = await transferring
    assert broken == 2 and (result["frames"], result["dropped"]) == (FRAMES, 0) and all_its_own(target)


async def test_a_frame_that_is_dropped_again_and_again_is_an_error(
    running: Running, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attach = Stream.attach

    def paused(stream: Stream, *arguments: Any) -> Any:
        stream.session.paused = True
        return attach(stream, *arguments)

    monkeypatch.setattr(Stream, "attach", lambda stream, on_error: paused(stream, on_error))
    arguments = [url(running), str(clip), str(tmp_path / "out.mp4"), "--token", TOKEN]
    assert await asyncio.to_thread(file_transfer.main, arguments) == 1
    assert "frame 0 of the clip was sent 5 times" in capsys.readouterr().err


async def test_a_file_gives_the_pictures_of_a_render_with_the_same_seed(mini_model: Path) -> None:
    """The real engine, lossless on the way: bit for bit, in sequence and as a stream batch."""
    dice = np.random.default_rng(3)
    frames = [dice.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(8)]
    for steps in (1, 3):
        settings = {"steps": steps, "seed": 7, "strength": 0.7}
        spec = StreamSpec(model=str(mini_model), width=SIZE, height=SIZE, backend="eager", dtype="float32")
        rendered, sent = Kept(), Kept()
        pipeline = load(spec)
        renderer = Renderer(pipeline, Settings().patched(settings), OrderedWriter(rendered))  # type: ignore[arg-type]
        for index, pixels in enumerate(frames):
            renderer.feed(Frame(index, index / 25, pixels))
        renderer.drain()
        pipeline.close()
        patient = Limits(ping_s=60.0)
        with serving(patient, factory=lambda _, spec=spec: load(spec), backend="eager", dtype="float32") as server:  # type: ignore[misc]
            png = PictureEncoding("png")
            async with StudioClient(url(server), token=TOKEN, settings=settings, picture=png, delivery="every") as client:
                stamped = ((pixels, None, None) for pixels in frames)
                source = media.Source(media.timed(stamped, Fraction(1, 25)), 25.0, len(frames))
                transfer = file_transfer.FileTransfer(client, source, OrderedWriter(sent), "max")  # type: ignore[arg-type]
                await transfer.run()
        assert len(rendered.pictures) == len(frames) == len(sent.pictures)
        assert all(np.array_equal(one, other) for one, other in zip(rendered.pictures, sent.pictures, strict=True))


@pytest.mark.parametrize("steps", [1, 3])
async def test_the_command_gives_the_pictures_of_render(mini_model: Path, tmp_path: Path, steps: int) -> None:
    """Without any option for it, bit for bit, from a clip that must be cropped; the sessions of the server begin with
    accelerations."""
    dice = np.random.default_rng(3)
    frames = [dice.integers(0, 256, (96, 160, 3), dtype=np.uint8) for _ in range(5)]
    source = makers.clip(tmp_path / "in.mp4", frames)
    settings = {"steps": steps, "seed": 7, "strength": 0.7}
    spec = StreamSpec(model=str(mini_model), width=SIZE, height=SIZE, backend="eager", dtype="float32")
    pipeline = load(spec)
    render(pipeline, Plan(Settings().patched(settings)), source, tmp_path / "render-%d.png")
    pipeline.close()
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    live = Settings().patched({"cache.enabled": True, "gate.enabled": True})
    patient = Limits(ping_s=60.0)
    with serving(patient, factory=lambda _: load(spec), backend="eager", dtype="float32", opening=live) as server:
        await run(server, source, tmp_path / "client-%d.png", *options)
    for number in range(1, 6):
        made = [np.array(Image.open(tmp_path / f"{name}-{number}.png")) for name in ("render", "client")]
        assert np.array_equal(*made), number
    assert not (tmp_path / "client-6.png").exists()


class Kept:
    """A writer that keeps the pictures."""

    def __init__(self) -> None:
        self.pictures: list[Pixels] = []

    def write(self, pixels: Pixels, at: Fraction | None = None, until: Fraction | None = None) -> None:
        self.pictures.append(pixels.copy())


async def test_the_same_keys_as_render(running: Running, clip: Path, tmp_path: Path) -> None:
    from pipelines import StreamSpec
    from studio.files.summary import Summary

    result = await run(running, clip, tmp_path / "out.mp4")
    assert list(result) == [*Summary().result(StreamSpec(), 0, 1.0), "latency_ms", *FILES, "understood", "unknown", "cut"]


async def test_pace_source_lasts_as_long_as_the_clip_and_drops_what_comes_too_fast(clip: Path, tmp_path: Path) -> None:
    with serving(step_s=0.1) as slow:
        result = await run(slow, clip, tmp_path / "out.mp4", "--pace", "source")
    assert float(str(result["wall_s"])) >= (FRAMES - 1) / 25
    assert int(str(result["dropped"])) > 10
    assert int(str(result["generated"])) + int(str(result["dropped"])) == FRAMES
    assert len(levels(tmp_path / "out.mp4")) == FRAMES


async def test_skipped_frames_repeat_the_picture(running: Running, tmp_path: Path) -> None:
    still = tmp_path / "still.mp4"
    writer = media.open_writer(still, 25, SIZE, SIZE)
    for _ in range(10):
        writer.write(flat(99))
    writer.close()
    result = await run(running, still, tmp_path / "out.mp4", "--set", "gate.enabled=true", "--set", "gate.max_skip=300")
    assert result["skipped"] == 9 and result["generated"] == 1
    assert len(levels(tmp_path / "out.mp4")) == 10


async def test_a_clip_keeps_its_times_and_its_sound(running: Running, tmp_path: Path) -> None:
    times = [0, 0.04, 0.3, 0.34, 1.04, 1.1]
    source = makers.clip(tmp_path / "in.mp4", [flat(40 * index) for index in range(6)], times, sound="aac")
    result = await run(running, source, tmp_path / "out.mp4")
    assert (result["sound"], result["damaged"], result["notes"]) == ("copied", None, [])
    found = list(media.open_source(tmp_path / "out.mp4", SIZE, SIZE).pictures)
    assert [float(picture.at) for picture in found] == pytest.approx(times, abs=0.0011)
    assert (await run(running, source, tmp_path / "even.gif", "--fps", "10", "--no-audio"))["frames"] == 12


async def test_a_damaged_clip_is_reported_as_render_does(
    running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = np.random.default_rng(0)
    frames = [dice.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(12)]
    cut = makers.clip(tmp_path / "cut.mp4", frames, container={"movflags": "+faststart"})
    cut.write_bytes(cut.read_bytes()[: int(cut.stat().st_size * 0.6)])
    arguments = [url(running), str(cut), str(tmp_path / "out.mp4"), "--token", TOKEN]
    assert await asyncio.to_thread(file_transfer.main, arguments) == 0
    shown = capsys.readouterr()
    assert "12 frames" in json.loads(shown.out.splitlines()[-1])["damaged"] and "cut.mp4: is damaged" in shown.err


async def test_a_picture_file(running: Running, tmp_path: Path) -> None:
    source, target = tmp_path / "in.png", tmp_path / "out.png"
    writer = media.open_writer(source, 1, SIZE, SIZE)
    writer.write(flat(50))
    writer.close()
    assert (await run(running, source, target, "--prompt", "red", "--format", "png"))["generated"] == 1
    assert media.read_picture(target, SIZE, SIZE)[0, 0].tolist() == [152, 25, 25]


async def test_the_command_prints_one_json_line_last(
    running: Running, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [url(running), str(clip), str(tmp_path / "out.mp4"), "--token", TOKEN]
    assert await asyncio.to_thread(file_transfer.main, arguments) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["frames"] == FRAMES


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--token", "wrong"], 2, "token"),
        (["--token", TOKEN, "--set", "strength=7"], 2, "strength"),
        (["--token", TOKEN, "--set", "nonsense=7"], 2, "nonsense"),
        (["--token", TOKEN, "--set", "steps=8"], 2, "steps"),
    ],
)
async def test_the_command_explains_what_is_wrong(
    running: Running, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, message: str
) -> None:
    arguments = [url(running), str(clip), str(tmp_path / "out.mp4"), *options]
    assert await asyncio.to_thread(file_transfer.main, arguments) == code
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


async def test_missing_files_and_servers(running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing, target = str(tmp_path / "none.mp4"), str(tmp_path / "out.mp4")
    assert await asyncio.to_thread(file_transfer.main, [url(running), missing, target]) == 1
    (tmp_path / "text.mp4").write_text("no clip")
    assert await asyncio.to_thread(file_transfer.main, [url(running), str(tmp_path / "text.mp4"), target, "--token", TOKEN]) == 1
    assert await asyncio.to_thread(file_transfer.main, ["http://127.0.0.1:9", str(tmp_path / "text.mp4"), target]) == 1
    assert "Traceback" not in capsys.readouterr().err


async def test_live_settings_and_their_errors(running: Running) -> None:
    async with StudioClient(url(running), token=TOKEN, picture=PictureEncoding("png")) as client:
        assert (await exchange(client, 100)).pixels[0, 0].tolist() == [100, 100, 100]  # type: ignore[index]
        assert (await client.patch({"prompt": "green"}))["prompt"] == "green"
        assert (await exchange(client, 100)).pixels[0, 0].tolist() == [50, 177, 50]  # type: ignore[index]
        with pytest.raises(StudioError, match="strength"):
            await client.patch({"strength": 3})
        assert client.values["prompt"] == "green"
        await client.frame(None)
        assert (await client.shown()).pixels[0, 0].tolist() == [64, 191, 64]  # type: ignore[index]


async def test_a_broken_connection_is_resumed(running: Running) -> None:
    async with StudioClient(url(running), token=TOKEN, settings={"prompt": "red"}) as client:
        first = await exchange(client, 100)
        session = client.welcome["session"]
        assert client._socket is not None
        client._socket.transport.abort()
        lost = await client.shown()
        assert lost.pixels is None and client.welcome["resumed"] and client.welcome["session"] == session
        again = await exchange(client, 100)
        assert again.pixels is not None and first.pixels is not None
        assert np.abs(again.pixels.astype(int) - first.pixels).max() <= 1


def welcome_of(resumed: bool) -> str:
    limits = {"credit": 2, "ping_s": 60.0}
    return json.dumps({"type": "welcome", "resume": "r", "resumed": resumed, "last_frame_id": 0, "limits": limits, "spec": {}})


async def test_nothing_is_sent_on_a_new_connection_before_its_welcome() -> None:
    """A frame that leaves while the client reconnects is lost; sent before the welcome it would end the new connection."""
    hellos, go, received = asyncio.Event(), asyncio.Event(), asyncio.Queue[str | bytes]()
    sockets: list[ServerConnection] = []

    async def serve(socket: ServerConnection) -> None:
        sockets.append(socket)
        await socket.recv()
        if len(sockets) > 1:
            hellos.set()
            await go.wait()
        await socket.send(welcome_of(len(sockets) > 1))
        async for message in socket:
            received.put_nowait(message)

    async with ws_serve(serve, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)]) as server:
        port = server.sockets[0].getsockname()[1]
        async with StudioClient(f"ws://127.0.0.1:{port}", token=TOKEN) as client, asyncio.timeout(20):
            sockets[0].transport.abort()
            await hellos.wait()
            await client.frame(None)
            go.set()
            assert (await client.shown()).answer.reason == "unsent"
            second = await client.frame(None)
            first_message = await received.get()
            assert isinstance(first_message, bytes) and parse_frame(first_message).id == second == 2


async def test_a_session_that_is_no_longer_kept_begins_again_as_it_stood(running: Running) -> None:
    """What a restarted server, or another one behind the same address, lacks, the client sends again."""
    running.hub.config = replace(running.hub.config, name="first")
    async with StudioClient(url(running), token=TOKEN, settings={"prompt": "red"}) as client:
        assert client.welcome["at"] == "first"
        await client.patch({"strength": 0.8, "prompt": "green"})
        await client.mask(np.full((4, 4), 255, np.uint8))
        session = client.welcome["session"]
        for seat in running.hub.seats.present():
            if seat.session.name == session:
                running.hub.end(seat)
        running.hub.config = replace(running.hub.config, name="second")
        assert client._socket is not None
        client._socket.transport.abort()
        assert (await client.shown()).pixels is None
        assert client.welcome["session"] != session and not client.welcome["resumed"] and client.welcome["at"] == "second"
        assert client.values["strength"] == 0.8 and client.values["prompt"] == "green"
        assert (await exchange(client, 100)).pixels is not None
        (held,) = [seat.session for seat in running.hub.seats.present() if seat.session.name == client.welcome["session"]]
        assert held.mask is not None
    running.hub.config = replace(running.hub.config, name=None)


async def test_a_lost_session_is_an_error_everywhere() -> None:
    with serving(Limits(idle_s=0.2, telemetry_s=0.05)) as quick:
        async with StudioClient(f"ws://{quick.host}", token=TOKEN) as client:
            with pytest.raises(StudioError, match="no frame") as caught:
                await client.shown()
            assert caught.value.code == "idle"
            with pytest.raises(StudioError):
                await client.frame(flat(1))


async def test_credit_is_waited_for(running: Running) -> None:
    running.pipeline.hold.clear()
    async with StudioClient(url(running), token=TOKEN) as client:
        await client.frame(flat(1))
        await client.frame(flat(2))
        assert not client.room
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.frame(flat(3)), 0.1)
        running.pipeline.hold.set()
        await client.frame(flat(4))


def test_addresses() -> None:
    assert stream_url("http://host:7860") == "ws://host:7860/rill/stream"
    assert stream_url("https://host/") == "wss://host/rill/stream"
    assert stream_url("host:7860") == "ws://host:7860/rill/stream"
    assert stream_url("wss://host/base/rill/stream") == "wss://host/base/rill/stream"
    assert stream_url("https://host/base/") == "wss://host/base/rill/stream"
    for wrong in ("ftp://host", "http://", "http://host/?token=secret", "http://user@host"):
        with pytest.raises(StudioError):
            stream_url(wrong)


async def exchange(client: StudioClient, value: int) -> DecodedAnswer:
    frame_id = await client.frame(flat(value))
    while (shown := await client.shown()).answer.settled < frame_id:
        pass
    return shown


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_a_call_that_waits_for_room_can_be_cancelled_when_there_is_some(
    turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StudioClient, "_delay", 60.0)
    client = StudioClient("http://127.0.0.1:1")
    waiting = asyncio.create_task(client.frame(None))
    while not client._room._waiters:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    client._room.set()
    for _ in range(turns):  # of the event loop between the event and the cancellation
        await asyncio.sleep(0)
    waiting.cancel()
    done, _ = await asyncio.wait([waiting], timeout=5)
    assert done and waiting.cancelled()
