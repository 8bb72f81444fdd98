"""Work that moves from one thread to another, and what happens when it fails or comes after the end."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from studio.stream.dispatcher import Dispatcher


async def test_work_runs_in_the_thread_that_it_was_sent_to() -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="codec") as pool:
        dispatcher = Dispatcher(asyncio.get_running_loop(), pool, "s")
        names: list[str] = []
        ended = asyncio.Event()

        def on_loop(word: str) -> None:
            names.append(f"{word} {threading.current_thread().name}")
            ended.set()

        def in_pool(word: str) -> None:
            names.append(threading.current_thread().name)
            dispatcher.to_loop(on_loop, word)

        dispatcher.to_pool(in_pool, "back", on_error=ended.set)
        async with asyncio.timeout(5):
            await ended.wait()
    assert names == ["codec_0", f"back {threading.current_thread().name}"]


async def test_an_error_in_the_pool_is_logged_and_reported_on_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.ERROR, "rill"):
        reported: list[str] = []
        ended = asyncio.Event()

        def on_error() -> None:
            reported.append(threading.current_thread().name)
            ended.set()

        def broken() -> None:
            raise ZeroDivisionError("a mistake")

        Dispatcher(asyncio.get_running_loop(), pool, "abc").to_pool(broken, on_error=on_error)
        async with asyncio.timeout(5):
            await ended.wait()
    assert reported == [threading.current_thread().name]
    assert "session abc: broken failed" in caplog.text and "a mistake" in caplog.text


def test_after_the_end_of_pool_and_loop_nothing_happens() -> None:
    loop = asyncio.new_event_loop()
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    loop.close()
    dispatcher, called = Dispatcher(loop, pool, "s"), []
    dispatcher.to_pool(called.append, 1, on_error=called.clear)  # type: ignore[arg-type]
    dispatcher.to_loop(called.append, 2)  # type: ignore[arg-type]
    assert called == []
