"""View-only tokens and MJPEG over a real server: who may look, what is seen, when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from studio.pictures import codec
from studio.stream.latest_picture import LatestPicture
from studio.visit.views import OUTPUTS, ViewError, Views, output_token
from studio.wire.limits import Limits
from tests.studio.harness import SIZE, Peer, Running, coloured, connected, joined, serving

RED, BLUE = coloured(200, 20, 20), coloured(20, 20, 200)


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with serving(Limits(max_sessions=8, max_viewers=2)) as running:
        yield running


def request(running: Running, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://{running.host}{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


async def token_of(running: Running, peer: Peer, key: str = "") -> str:
    headers: dict[str, Any] = {"X-Rill-Resume": peer.welcome["resume"], "Origin": f"http://{running.host}"}
    if key:
        headers["X-Rill-Output"] = key
    status, body = await asyncio.to_thread(request, running, "/rill/view", "POST", **headers)
    assert status == 200
    return str(json.loads(body)["token"])


class Viewer:
    """Reads the parts of an MJPEG answer."""

    def __init__(self, running: Running, token: str) -> None:
        self.answer = urllib.request.urlopen(f"http://{running.host}/rill/view.mjpeg?token={token}", timeout=5)
        assert self.answer.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=rill"
        assert self.answer.readline() == b"--rill\r\n"

    def picture(self) -> tuple[int, ...]:
        """The mean colour of the next part, all of which is there before the next one begins."""
        assert self.answer.readline() == b"Content-Type: image/png\r\n"
        length = int(self.answer.readline().split(b":")[1])
        assert self.answer.readline() == b"\r\n"
        pixels = codec.decode(memoryview(self.answer.read(length)), "png", SIZE, SIZE, Limits())
        assert self.answer.read(10) == b"\r\n--rill\r\n"
        return tuple(int(value) for value in np.asarray(pixels).reshape(-1, 3).mean(axis=0).round())

    def until(self, colour: tuple[int, ...]) -> None:
        while self.picture() != colour:
            pass


async def test_a_view_shows_its_session_and_no_other_until_it_ends(shared: Running) -> None:
    async with joined(shared) as mine, joined(shared) as other:
        await mine.round(RED)
        await other.round(BLUE)
        token = await token_of(shared, mine)
        assert token == await token_of(shared, mine)
        assert token not in (mine.welcome["resume"], mine.welcome["session"])
        viewer = await asyncio.to_thread(Viewer, shared, token)
        assert await asyncio.to_thread(viewer.picture) == (200, 20, 20)
        await mine.round(coloured(20, 200, 20))
        await asyncio.to_thread(viewer.until, (20, 200, 20))
        await mine.send("bye")
        await mine.closed()
        assert await asyncio.to_thread(viewer.answer.read) == b"", "it ends with its session"
        assert (await asyncio.to_thread(request, shared, f"/rill/view.mjpeg?token={token}"))[0] == 404


async def test_only_so_many_viewers_and_one_that_leaves_makes_room(shared: Running) -> None:
    async with joined(shared) as peer:
        await peer.round(RED)
        token = await token_of(shared, peer)
        viewers = [await asyncio.to_thread(Viewer, shared, token) for _ in range(2)]
        for viewer in viewers:
            await asyncio.to_thread(viewer.picture)
        assert (await asyncio.to_thread(request, shared, f"/rill/view.mjpeg?token={token}"))[0] == 503
        viewers.pop().answer.close()
        async with asyncio.timeout(10):
            while shared.hub.views._views[peer.welcome["session"]].viewers > 1:
                await peer.round(RED)
        await asyncio.to_thread(lambda: Viewer(shared, token).picture())
        await peer.send("bye")
        await peer.closed()


async def test_however_many_come_at_once_only_so_many_watch(shared: Running) -> None:
    async with joined(shared) as peer:
        await peer.round(RED)
        request = f"GET /rill/view.mjpeg?token={await token_of(shared, peer)} HTTP/1.1\r\nHost: {shared.host}\r\n\r\n".encode()

        async def come() -> tuple[bytes, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection("127.0.0.1", shared.port)
            writer.write(request)
            async with asyncio.timeout(20):
                return (await reader.readline()).split()[1], writer

        came = await asyncio.gather(*(come() for _ in range(60)))
        assert sorted(status for status, _ in came) == [b"200"] * 2 + [b"503"] * 58
        for _, writer in came:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(10):
            while shared.hub.views._views[peer.welcome["session"]].viewers:
                await peer.round(RED)
        await peer.send("bye")
        await peer.closed()


def test_a_viewer_that_is_refused_or_fails_takes_no_place() -> None:
    views = Views(1)
    stream: Any = SimpleNamespace(latest=LatestPicture())
    token = views.token("s", stream)
    for _ in range(3):
        with contextlib.suppress(RuntimeError), views.watch(token):
            with pytest.raises(ViewError) as caught, views.watch(token):
                pass
            assert caught.value.status == 503
            raise RuntimeError("the connection broke")
    with views.watch(token) as view:
        assert view.viewers == 1
    views.end("s")
    with pytest.raises(ViewError) as caught, views.watch(token):
        pass
    assert caught.value.status == 404 and view.viewers == 0


async def test_a_token_can_do_nothing_but_look(shared: Running) -> None:
    async with joined(shared) as peer:
        token = await token_of(shared, peer)
        assert not shared.hub.token_valid(token)
        assert shared.hub.seats.holder(token) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"X-Rill-Resume": "wrong"}, 404), ({}, 404), ({"X-Rill-Resume": "wrong", "Origin": "http://evil.example"}, 403)],
)
def test_no_other_client_gets_one(shared: Running, headers: dict[str, str], status: int) -> None:
    assert request(shared, "/rill/view", "POST", **headers)[0] == status


def test_the_clean_page_is_there_and_uses_no_other_host(shared: Running) -> None:
    status, page = request(shared, "/rill/view")
    assert status == 200 and b"view.mjpeg" in page and b"://" not in page
    assert request(shared, "/rill/view.mjpeg?token=x")[0] == 404


KEY = "a-key-that-only-its-owner-knows"


async def test_an_output_holds_the_last_picture_and_goes_on_with_the_next_session(shared: Running) -> None:
    async with joined(shared) as first:
        await first.round(RED)
        token = await token_of(shared, first, KEY)
        assert token == output_token(KEY) and token != await token_of(shared, first)
        viewer = await asyncio.to_thread(Viewer, shared, token)
        assert await asyncio.to_thread(viewer.picture) == (200, 20, 20)
        await first.send("bye")
        await first.closed()
    assert await asyncio.to_thread(viewer.picture) == (200, 20, 20), "the last one, again"
    late = await asyncio.to_thread(Viewer, shared, token)
    assert await asyncio.to_thread(late.picture) == (200, 20, 20), "also for a viewer that comes while no session is there"
    async with joined(shared) as second:
        await second.round(BLUE)
        assert await token_of(shared, second, KEY) == token
        await asyncio.to_thread(viewer.until, (20, 20, 200))
        await second.send("bye")
        await second.closed()
    viewer.answer.close()
    late.answer.close()


async def test_an_output_can_be_watched_before_any_session_is_there(shared: Running) -> None:
    """As after a restart of the server, which keeps no outputs."""
    viewer = await asyncio.to_thread(Viewer, shared, output_token("b" * 32))
    async with joined(shared) as peer:
        await peer.round(BLUE)
        await token_of(shared, peer, "b" * 32)
        assert await asyncio.to_thread(viewer.picture) == (20, 20, 200)
        await peer.send("bye")
        await peer.closed()
    viewer.answer.close()


@pytest.mark.parametrize(
    "key", ["short", "x" * 65, "with spaces in it, and more", "umlaut-\u00e4-and-more-than-22", "out/../../etc/passwd-and-so-on"]
)
def test_what_is_no_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(ViewError, match="22 to 64") as caught:
        output_token(key)
    assert caught.value.status == 400


def fake_stream(*picture: str) -> Any:
    return SimpleNamespace(latest=SimpleNamespace(wake_viewers=lambda: None, picture=picture or None))


def test_a_session_is_at_one_output_and_its_address_alone_cannot_put_one_there() -> None:
    views, stream = Views(1), fake_stream("png", "a picture")
    one, two = "k" * 22, "l" * 22
    token = views.put(one, stream)
    with views.watch(token) as view:
        assert view.stream is stream
        views.put(two, stream)
        assert view.stream is None and view.last == ("png", "a picture")
        other = views.put(token, fake_stream())  # the address as a key is the key of another output
        assert other != token and view.stream is None


def test_idle_outputs_are_few_and_their_viewers_too() -> None:
    views = Views(2)
    used = views.put("k" * 22, fake_stream())
    for number in range(2 * OUTPUTS):
        with views.watch(output_token(f"nobody-was-ever-here-{number:04}")):
            pass
    assert len(views._outputs) <= OUTPUTS and used in views._outputs
    with views.watch(output_token("c" * 22)), views.watch(output_token("d" * 22)):
        with pytest.raises(ViewError) as caught, views.watch(output_token("e" * 22)):
            pass
        assert caught.value.status == 503
        with views.watch(used):
            pass


async def test_a_key_that_is_none_is_a_bad_request(shared: Running) -> None:
    async with joined(shared) as peer:
        headers = {"X-Rill-Resume": peer.welcome["resume"], "Origin": f"http://{shared.host}", "X-Rill-Output": "short"}
        status, body = await asyncio.to_thread(lambda: request(shared, "/rill/view", "POST", **headers))
        assert status == 400 and b"22 to 64" in body
        await peer.send("bye")
        await peer.closed()


async def test_who_waits_watches_who_is_on_until_the_wait_is_over() -> None:
    """Two wait for one place. The first sees whoever has it, and nothing more from the moment of the own turn."""
    with serving(Limits(max_sessions=1, max_viewers=2), watch_waiting=True) as running:
        async with joined(running) as on, connected(running) as first, connected(running) as second:
            await on.round(RED)
            await first.send("hello", protocol=1, picture={"format": "png"}, wait=True)
            place = await first.next_text("waiting")
            viewer = await asyncio.to_thread(Viewer, running, str(place["view"]))
            await asyncio.to_thread(viewer.until, (200, 20, 20))
            assert (await on.next_text("turn"))["watched"] is True, "who is on knows"
            await second.send("hello", protocol=1, wait=True)
            later = await second.next_text("waiting")
            assert later["view"] != place["view"]
            await on.send("bye")
            first.welcome = await first.next_text("welcome")
            assert b"--rill" in await asyncio.to_thread(viewer.answer.read), "it ends"
            assert (await asyncio.to_thread(request, running, f"/rill/view.mjpeg?token={place['view']}"))[0] == 404
            other = await asyncio.to_thread(Viewer, running, str(later["view"]))
            await first.round(BLUE)
            await asyncio.to_thread(other.until, (20, 20, 200))
        assert running.hub.views._lent == []


async def test_nobody_who_waits_watches_unless_the_operator_allows_it() -> None:
    with serving(Limits(max_sessions=1)) as running:
        async with joined(running) as on, connected(running) as first:
            await first.send("hello", protocol=1, wait=True)
            assert "view" not in await first.next_text("waiting")
            assert "watched" not in await on.next_text("turn")


def test_all_who_wait_together_have_so_many_viewers() -> None:
    views = Views(2)
    with contextlib.ExitStack() as stack:
        lent = [stack.enter_context(views.lend()) for _ in range(3)]
        stream = fake_stream("png", "")
        for view in lent:
            view.show(stream)
        for view in lent[:2]:
            stack.enter_context(views.watch(view.token))
        with pytest.raises(ViewError) as refused, views.watch(lent[2].token):
            pass
        assert refused.value.status == 503
        own = views.token("mine", stream)
        with views.watch(own):
            pass  # the session's own viewers have places of their own
