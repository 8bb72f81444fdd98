"""A server whose pipelines a test makes, holds back or breaks, for tests of spec changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pipelines import StreamSpec
from studio.pictures import codec
from studio.wire.limits import Limits
from studio.wire.protocol import Answer
from tests.studio.fake import FakePipeline
from tests.studio.harness import Peer, Running, serving


class PipelineFactory:
    """Makes fake pipelines. After the first, a build waits for `proceed` and may fail (`error`) or be limited (`max_steps`)."""

    def __init__(self) -> None:
        self.made: list[FakePipeline] = []
        self.error: Exception | None = None
        self.max_steps = 8
        self.proceed = threading.Event()
        self.proceed.set()
        self.building = threading.Event()

    def __call__(self, spec: StreamSpec) -> FakePipeline:
        if self.made:
            self.building.set()
            assert self.proceed.wait(20), "a test never set `proceed`"
            if self.error is not None:
                raise self.error
        self.made.append(FakePipeline(replace(spec, max_steps=min(spec.max_steps, self.max_steps))))
        return self.made[-1]


@contextmanager
def serving_factory(limits: Limits | None = None, **options: Any) -> Iterator[tuple[PipelineFactory, Running]]:
    factory = PipelineFactory()
    with serving(limits or Limits(errors_at_once=50), factory=factory, **options) as running:
        try:
            yield factory, running
        finally:
            factory.proceed.set()
            factory.made[-1].hold.set()


def size(answer: Answer) -> tuple[int, int]:
    height, width = codec.read(memoryview(answer.picture), answer.format, Limits()).shape[:2]
    return width, height


async def change(peer: Peer, request: int = 7, **changes: object) -> dict[str, Any]:
    await peer.send("spec", spec=changes, request=request)
    return await peer.next_text("spec", "error")
