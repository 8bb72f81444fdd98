"""Fits beside the stream, over real sockets: which session's, what the client receives, what ends a fit."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from pipelines import PictureStyle, read_style, write_style
from studio.client import StudioClient, StudioError
from studio.model.fitter import Fit, FitNews
from studio.wire import protocol
from studio.wire.limits import Limits
from tests.studio.harness import TOKEN, Peer, Running, coloured, joined, serving

GREY = coloured(100, 100, 100)
PAINTER = "0123456789ab"
PICTURES = [cv2.imencode(".png", np.full((60, 60, 3), level, np.uint8))[1].tobytes() for level in (40, 200)]


class FakeFitter:
    """Records requests and drops; a test sends the news."""

    def __init__(self) -> None:
        self.requested: list[Fit] = []
        self.dropped: list[str] = []
        self.has_dropped = threading.Event()
        self.running = self.waiting = 0

    def request(self, fit: Fit) -> None:
        self.requested.append(fit)

    def drop(self, session: str) -> None:
        self.dropped.append(session)
        self.has_dropped.set()

    def close(self) -> None:
        pass


def style(value: float, source: Any = None) -> PictureStyle:
    return PictureStyle(np.full(4, value, np.float32), PAINTER, fitted=int(value), source=source)


@pytest.fixture
def shared() -> Iterator[Running]:
    with serving(Limits(max_sessions=8, errors_at_once=50), fit_share=0.5) as running:
        running.hub.fits.fitter = FakeFitter()
        running.pipeline.pictures = SimpleNamespace(
            style=lambda picture: style(0.0, picture), owns=lambda given: given.painter == PAINTER, check=lambda given: None
        )
        yield running


def fitter(shared: Running) -> FakeFitter:
    found = shared.hub.fits.fitter
    assert isinstance(found, FakeFitter)
    return found


async def show(peer: Peer, picture: bytes = PICTURES[0], form: str = "png") -> None:
    await peer.socket.send(protocol.pack_picture(1, form, picture))
    await peer.next_text("picture")


async def show_second(peer: Peer, picture: bytes, form: str = "png") -> None:
    await peer.socket.send(protocol.pack_picture(2, form, picture, second=True))
    assert (await peer.next_text("picture_b"))["request"] == 2


async def test_a_picture_is_fitted_and_its_numbers_reach_the_model(shared: Running) -> None:
    async with joined(shared) as peer:
        await show(peer)
        (fit,) = fitter(shared).requested
        assert fit.pixels.shape == (448, 448, 3)
        fit.on_news(FitNews("waiting", place=2))
        assert await peer.next_text("fit") == {"type": "fit", "state": "waiting", "place": 2}
        fit.on_news(FitNews("fitting"))
        begun = {"type": "fit", "state": "fitting", "done": 0.0, "gain": 0.0, "share": 0.0}
        assert await peer.next_text("fit") == begun, "it waits no longer"
        fit.on_news(FitNews("fitting", done=0.5, gain=0.25, share=0.5, style=style(30.0)))
        expected = {"type": "fit", "state": "fitting", "done": 0.5, "gain": 0.25, "share": 0.5}
        assert await peer.next_text("fit") == expected
        await peer.round(GREY)
        seen = shared.pipeline.opened[-1].pictures[-1]
        assert seen.fitted == 30 and seen.source is fit.pixels
        fit.on_news(FitNews("done", done=1.0, gain=0.25, share=0.5))
        assert (await peer.next_text("fit"))["state"] == "done"
        await peer.round(GREY)
        assert len(fitter(shared).requested) == 1 and fitter(shared).dropped == []


async def test_numbers_that_are_not_better_are_not_taken(shared: Running) -> None:
    async with joined(shared) as peer:
        await show(peer)
        (fit,) = fitter(shared).requested
        for gain, value in ((0.3, 30.0), (0.3, 60.0), (0.1, 90.0)):
            fit.on_news(FitNews("fitting", done=value / 100, gain=gain, style=style(value)))
            await peer.next_text("fit")
        await peer.round(GREY)
        assert shared.pipeline.opened[-1].pictures[-1].fitted == 30


async def test_news_of_an_earlier_picture_changes_nothing(shared: Running) -> None:
    async with joined(shared) as peer:
        await show(peer)
        await show(peer, PICTURES[1])
        first, second = fitter(shared).requested
        first.on_news(FitNews("fitting", done=0.5, gain=0.9, style=style(30.0)))
        second.on_news(FitNews("fitting", done=0.2, gain=0.1, style=style(20.0)))
        assert (await peer.next_text("fit"))["state"] == "stopped"  # the first one
        assert (await peer.next_text("fit"))["done"] == 0.2
        await peer.round(GREY)
        assert shared.pipeline.opened[-1].pictures[-1].fitted == 20


async def test_a_client_stops_its_fit_and_begins_it_again(shared: Running) -> None:
    async with joined(shared) as peer:
        await show(peer)
        await peer.send("fit", wanted=False)
        assert await peer.next_text("fit") == {"type": "fit", "wanted": False}
        assert await peer.next_text("fit") == {"type": "fit", "state": "stopped"}
        assert fitter(shared).dropped == [peer.welcome["session"]]
        await peer.send("fit", wanted=True)
        await peer.next_text("fit")
        await peer.round(GREY)
        assert len(fitter(shared).requested) == 2


@pytest.mark.parametrize("way", ["removed", "a style's file", "bye", "gone"])
async def test_a_fit_ends_with_its_picture_or_its_visitor(shared: Running, way: str) -> None:
    async with joined(shared) as peer:
        name = peer.welcome["session"]
        await show(peer)
        if way == "removed":
            await show(peer, b"", "none")
        elif way == "a style's file":
            await show(peer, write_style(style(1.0)), "style")
        elif way == "bye":
            await peer.send("bye")
            await peer.closed()
        else:
            await peer.socket.close()
    assert await asyncio.to_thread(fitter(shared).has_dropped.wait, 30.0)
    assert fitter(shared).dropped == [name]


async def test_two_pictures_are_fitted_one_after_the_other(shared: Running) -> None:
    async with joined(shared) as peer:
        await show(peer)
        await show_second(peer, PICTURES[1])
        (first,) = fitter(shared).requested
        first.on_news(FitNews("fitting", done=0.5, gain=0.5, style=style(30.0)))
        assert "of" not in await peer.next_text("fit")
        first.on_news(FitNews("done", done=1.0, gain=0.5))
        assert (await peer.next_text("fit"))["state"] == "done"
        await peer.round(GREY)
        first, second = fitter(shared).requested
        second.on_news(FitNews("fitting", done=0.5, gain=0.2, style=style(90.0)))
        assert (await peer.next_text("fit"))["of"] == "picture_b"
        second.on_news(FitNews("done", done=1.0, gain=0.2))
        await peer.next_text("fit")
        await peer.round(GREY)
        state = shared.pipeline.opened[-1]
        assert (state.pictures[-1].fitted, state.seconds[-1].fitted) == (30, 90)
        assert state.seconds[-1].source.mean() == 200 and len(fitter(shared).requested) == 2


async def test_a_second_picture_s_fit_ends_with_it_and_leaves_the_first_alone(shared: Running) -> None:
    async with joined(shared) as peer:
        await show(peer)
        fitter(shared).requested[0].on_news(FitNews("done", done=1.0, gain=0.5))
        await peer.next_text("fit")
        await show_second(peer, PICTURES[1])
        await show_second(peer, b"", "none")
        assert await peer.next_text("fit") == {"type": "fit", "state": "stopped", "of": "picture_b"}
        await peer.round(GREY)
        assert len(fitter(shared).requested) == 2 and fitter(shared).dropped == [peer.welcome["session"]]


async def test_a_mixture_of_two_pictures_is_kept_as_it_is_painted(shared: Running) -> None:
    async with joined(shared) as peer:
        await show(peer, write_style(style(1.0)), "style")
        await show_second(peer, PICTURES[1])
        await peer.send("settings", patch={"picture.blend": 0.25})
        await peer.send("keep", name="both", request=4)
        found = read_style(base64.b64decode((await peer.next_text("style"))["file"]))
        assert np.allclose(found.numbers, 0.75) and (found.name, found.painter) == ("both", PAINTER)
        tile = cv2.imdecode(np.frombuffer(found.tile, np.uint8), cv2.IMREAD_COLOR)
        assert abs(int(tile.mean()) - (0.75 * 128 + 0.25 * 200)) < 4, "grey where a file has no tile"


async def test_a_mixture_for_two_painters_is_not_kept(shared: Running) -> None:
    async with joined(shared) as peer:
        await show(peer, write_style(style(1.0)), "style")
        await show_second(peer, write_style(PictureStyle(np.ones(4, np.float32), "ffffffffffff")), "style")
        await peer.send("keep", name="both", request=4)
        error = await peer.next_text("error")
        assert (error["code"], error["request"]) == ("bad_picture", 4) and "another painter" in error["message"]


async def test_without_a_share_nothing_is_fitted(shared: Running) -> None:
    object.__setattr__(shared.hub.config, "fit_share", 0.0)  # frozen
    async with joined(shared) as peer:
        await show(peer)
        await peer.round(GREY)
        assert fitter(shared).requested == []


async def test_a_style_is_kept_under_a_name_with_a_tile(shared: Running) -> None:
    async with joined(shared) as peer:
        await peer.send("keep", name="grey", request=3)
        error = await peer.next_text("error")
        assert (error["code"], error["request"]) == ("bad_picture", 3)
        await show(peer)
        await peer.send("keep", name="  grey \n sea", request=4)
        kept = await peer.next_text("style")
        file = base64.b64decode(kept["file"])
        found = read_style(file)
        assert (kept["request"], kept["name"], found.name, found.painter) == (4, "grey sea", "grey sea", PAINTER)
        tile = cv2.imdecode(np.frombuffer(found.tile, np.uint8), cv2.IMREAD_COLOR)
        assert tile.shape == (144, 144, 3) and abs(int(tile.mean()) - 40) < 4
        await show(peer, file, "style")
        await peer.round(GREY)
        assert shared.pipeline.opened[-1].pictures[-1].name == "grey sea"


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, 7, None, "a\u0000b"])
async def test_a_name_must_be_a_short_printable_text(shared: Running, name: object) -> None:
    async with joined(shared) as peer:
        await show(peer)
        await peer.send("keep", name=name)
        assert (await peer.next_text("error"))["field"] == "name"


async def test_the_python_client_keeps_a_style_and_stops_its_fit(shared: Running) -> None:
    async with StudioClient(f"http://{shared.host}", token=TOKEN) as client:
        with pytest.raises(StudioError) as caught:
            await client.keep("none")
        assert caught.value.code == "bad_picture"
        await client.picture(np.full((60, 60, 3), 40, np.uint8))
        assert read_style(await client.keep("grey")).name == "grey"
        (fit,) = fitter(shared).requested
        fit.on_news(FitNews("fitting", done=0.5))
        await client.fitting(False)
        await client.patch({"strength": 0.4})  # its answer comes after those of before
        assert client.fit == {"type": "fit", "state": "stopped"} and len(fitter(shared).dropped) == 1
