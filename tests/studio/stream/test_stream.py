"""One session's stream as a whole: every method runs in the thread that its class belongs to, and connections come and go."""

from __future__ import annotations

import inspect
import threading
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import pytest

from pipelines import HostPicture
from studio.stream.inbound import FrameReader, Inbound
from studio.stream.latest_picture import LatestPicture
from studio.stream.mailbox import Mailbox
from studio.stream.model_callbacks import ModelCallbacks
from studio.stream.outbound import Outbound, PicturePacker
from studio.stream.session import Session
from studio.stream.stream import Stream
from studio.stream.telemetry import Window
from studio.wire.protocol import pack_mask
from tests.studio.harness import coloured, joined, serving
from tests.studio.stream.manual import Bench

GREY = coloured(100, 100, 100)
EVENT_LOOP = (Inbound, Outbound, Mailbox, LatestPicture, Session, Stream, Window)
CODEC_POOL = (FrameReader, PicturePacker)
MODEL_THREAD = (ModelCallbacks,)
ANY_THREAD = {"PicturePacker.add", "PicturePacker.add_call"}


def recorded(name: str, method: Callable[..., Any], threads: dict[str, set[str]]) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        threads[name].add(threading.current_thread().name)
        return method(*arguments, **named)

    return call


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Class and method → names of the threads that have called it."""
    found: dict[str, set[str]] = defaultdict(set)
    for kind in (*EVENT_LOOP, *CODEC_POOL, *MODEL_THREAD):
        for name, method in vars(kind).items():
            if inspect.isfunction(method) and name != "__init__":
                monkeypatch.setattr(kind, name, recorded(f"{kind.__name__}.{name}", method, found))
    return found


async def test_every_method_runs_in_the_thread_that_its_class_belongs_to(threads: dict[str, set[str]]) -> None:
    with serving() as running:
        async with joined(running, settings={"gate.enabled": True, "gate.max_skip": 300}) as peer:
            await peer.send("settings", patch={"probe.enabled": True})
            await peer.round(GREY)
            assert (await peer.round(GREY)).verdict == "skipped"
            assert (await peer.round(b"no picture", "png")).verdict == "failed"
            await peer.socket.send(pack_mask(3, GREY))
            await peer.next_text("mask")
            await peer.change(GREY, width=192)
            await peer.round(GREY)
        event_loop = running._thread.name
    homes = [(EVENT_LOOP, event_loop), (CODEC_POOL, "rill-codec"), (MODEL_THREAD, "rill-model")]
    home_of = {kind.__name__: thread for kinds, thread in homes for kind in kinds}
    strays = {
        name: names
        for name, names in threads.items()
        if name not in ANY_THREAD and any(not thread.startswith(home_of[name.partition(".")[0]]) for thread in names)
    }
    assert strays == {}
    assert {name.partition(".")[0] for name in threads} == set(home_of), "each class has been at work"
    wanted = {"Inbound.receive_mask", "Outbound.pipeline_swapped", "Outbound.skipped", "Outbound.failed", "PicturePacker._pack"}
    assert wanted <= set(threads)


def test_a_new_connection_finds_nothing_of_the_one_before() -> None:
    bench = Bench()
    bench.session.wants_references = True
    bench.stream.window.remark({"gate.cosine": 1.0})
    bench.mailbox.post_or_drop("old")
    mailbox = bench.stream.attach()
    assert bench.mailbox.closed and not mailbox.closed and mailbox.get_nowait() is None
    assert not bench.session.wants_references and bench.stream.window.notes == {}


def test_events_without_a_connection_have_no_effect() -> None:
    bench = Bench()
    bench.send(1)
    bench.run()
    bench.stream.detach()
    bench.session.detach()
    assert not bench.stream.attached
    bench.done(0, HostPicture(np.zeros((128, 128, 3), np.uint8)))
    bench.run()
    assert bench.session.outbox == [] and bench.errors == []


def test_counts_are_exported_once() -> None:
    bench = Bench()
    bench.send(1)
    bench.run()
    bench.done(0, HostPicture(np.zeros((128, 128, 3), np.uint8)))
    bench.run()
    assert bench.answers() == [(1, "generated", 1)]
    for _ in range(2):
        bench.stream.export_counts()
    assert b'rill_frames_total{verdict="generated"} 1.0' in bench.metrics.text()


def test_the_first_frame_of_a_connection_is_drawn_even_if_it_is_still() -> None:
    """Whoever resumes a session may have no picture that a skipped frame could repeat."""
    bench = Bench()
    bench.send(1)
    bench.run()
    bench.gate.still = True
    assert bench.gate.decide(None, bench.session.settings).skip
    bench.stream.detach()
    bench.stream.attach()
    assert not bench.gate.decide(None, bench.session.settings).skip
