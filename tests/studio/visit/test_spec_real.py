"""Spec changes of a real engine in miniature: backends and sizes."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from pipelines import StreamSpec, load
from studio.pictures import codec
from studio.wire import protocol
from studio.wire.limits import Limits
from studio.wire.protocol import Answer, PictureEncoding
from tests.studio.harness import SIZE, joined, serving
from tests.studio.visit.spec_changes import size


@pytest.mark.long
async def test_real_backends_and_sizes_while_a_client_streams(
    one_chunk_model: Path, graph_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """eager → openvino → compile → 192 → 128 on a miniature: nothing is lost, and nothing of the old pipelines remains.

    torch.compile captures its graphs but generates no code, which takes it minutes beside a stream; test_backends.py has that.
    """
    original = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module, **options: original(module, **{**options, "backend": "eager"}))
    made: list[weakref.ref[Any]] = []

    def factory(spec: StreamSpec) -> Any:
        pipeline = load(replace(spec, model=str(one_chunk_model)), graph_cache)
        made.append(weakref.ref(pipeline))
        made.append(weakref.ref(pipeline.graphs.parts))
        return pipeline

    plan: list[tuple[dict[str, object], int]] = [
        ({"backend": "openvino"}, 1),
        ({"backend": "compile"}, 2),
        ({"backend": "eager", "width": 192, "height": 192}, 2),
        ({"width": 128, "height": 128}, 2),
    ]
    noise = codec.encode(np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8), PictureEncoding("png"))
    patient = replace(Limits(), ping_s=60.0)  # this peer answers no pings, and waits for graphs
    with serving(patient, factory=factory, backend="eager", dtype="float32") as running:
        async with joined(running, settings={"steps": 2}) as peer:
            log: list[Any] = []
            enough = asyncio.Event()

            async def listen() -> None:
                while True:
                    log.append(await peer.receive())

            async def stream() -> None:
                settled = 0
                while not enough.is_set():
                    settled = max([settled, *(answer.settled for answer in peer.answers[-4:])])
                    if peer.next_id - 1 - settled < 2:
                        await peer.send_frame(noise)
                    await asyncio.sleep(0.02)

            tasks = [asyncio.create_task(listen()), asyncio.create_task(stream())]
            for spec, steps in plan:
                replies = sum(isinstance(item, dict) and item["type"] == "spec" for item in log)
                await peer.send("spec", spec=spec)
                while sum(isinstance(item, dict) and item["type"] == "spec" for item in log) == replies:
                    assert not any(task.done() for task in tasks) and not any(text["type"] == "error" for text in peer.texts)
                    await asyncio.sleep(0.02)
                reached = len(peer.answers)
                while sum(answer.verdict == "generated" for answer in peer.answers[reached:]) < 5:
                    assert not any(task.done() for task in tasks), tasks
                    await asyncio.sleep(0.01)
                await peer.send("settings", patch={"steps": steps})
            enough.set()
            await tasks[1]
            tasks[0].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            log.append(await peer.round(noise))
            last = peer.next_id - 1
            session = running.hub._streams[peer.welcome["session"]].session
            assert session.totals["received"] == last == sum(session.totals[name] for name in protocol.VERDICTS), (
                "an id met no fate"
            )
        shape, seen, shown = (SIZE, SIZE), [], []
        for item in log:
            if isinstance(item, dict) and item["type"] == "spec":
                shape = (item["spec"]["width"], item["spec"]["height"])
                seen.append((item["spec"]["backend"], shape))
            elif isinstance(item, Answer) and item.format != "none":
                assert size(item) == shape
                shown.append(item.frame_id)
        assert seen == [("openvino", (128, 128)), ("compile", (128, 128)), ("eager", (192, 192)), ("eager", (128, 128))]
        assert shown == sorted(set(shown)) and not any(answer.verdict == "failed" for answer in peer.answers)
        assert [answer.settled for answer in peer.answers] == sorted(answer.settled for answer in peer.answers)
        async with joined(running, resume=peer.welcome["resume"]) as again:
            assert again.welcome["resumed"] and (await again.round(noise)).settled == last + 1
        for _ in range(600):
            if not any(ref() for ref in made[:-2]):
                break
            gc.collect()
            await asyncio.sleep(0.05)
        assert [ref() is not None for ref in made] == [False] * 8 + [True] * 2, "an old pipeline is still in memory"
