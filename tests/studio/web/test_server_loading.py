"""What the server answers while its model loads, when it has failed, when it is full, and when it stops."""

from __future__ import annotations

import asyncio
import json
import urllib.request

from pipelines import ModelError
from studio.wire.limits import Limits
from tests.studio.harness import GREY, Running, connected, joined, serving


async def test_a_full_server_refuses_and_a_warm_seat_gives_way() -> None:
    with serving(Limits(max_sessions=1)) as running:
        async with joined(running) as first:
            async with connected(running) as second:
                await second.send("hello", protocol=1)
                assert await second.closed() == (4503, "full")
                assert second.texts[0]["code"] == "full" and "try again" in second.texts[0]["message"]
            assert (await first.round(GREY)).verdict == "generated"
        async with joined(running) as third:
            assert (await third.round(GREY)).verdict == "generated"
        async with connected(running) as again:
            await again.send("hello", protocol=1, resume=first.welcome["resume"])
            assert (await again.closed())[0] == 4410


async def test_loading_is_reported_before_the_welcome() -> None:
    import threading

    go = threading.Event()
    with serving(factory=lambda spec: go.wait(20) and running.pipeline) as running:
        async with connected(running) as peer:
            await peer.send("hello", protocol=1)
            loading = await peer.next_text("loading", "welcome")
            assert loading["type"] == "loading" and loading["elapsed_s"] > 0
            assert await asyncio.to_thread(fetch, running, "/healthz") == (503, "loading")
            go.set()
            assert (await peer.next_text("welcome"))["protocol"] == 1
            assert await asyncio.to_thread(fetch, running, "/healthz") == (200, "ok")


async def test_a_model_that_cannot_be_loaded_is_explained() -> None:
    def broken(spec: object) -> object:
        raise ModelError("unet/config.json: no such file")

    with serving(factory=broken) as running:
        async with connected(running) as peer:
            await peer.send("hello", protocol=1)
            assert await peer.closed() == (4500, "model_failed")
            assert "unet/config.json" in peer.texts[-1]["message"]
        assert await asyncio.to_thread(fetch, running, "/healthz") == (500, "failed")


async def test_a_stopping_server_closes_with_1012() -> None:
    with serving(step_s=0.05) as running:
        async with joined(running) as peer:
            await peer.send_frame(GREY)
            stopping = asyncio.create_task(asyncio.to_thread(running.stop))
            assert (await peer.closed())[0] == 1012
            await stopping
    assert running.pipeline.closed


def get(running: Running, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{running.host}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def fetch(running: Running, path: str) -> tuple[int, str]:
    status, body = get(running, path)
    return status, json.loads(body)["status"]
