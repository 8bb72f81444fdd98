"""A model's thread with a fake pipeline."""

from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import Any

import numpy as np

from pipelines import Frame, Settings, StreamSpec
from studio.model.jobs import Job, JobResult
from studio.model.owner import Owner
from tests.studio.fake import FakePipeline

GREY = np.full((128, 128, 3), 100, np.uint8)


class OwnerHarness:
    """An owner of a fake model, and what came back from it."""

    def __init__(self) -> None:
        self.pipeline = FakePipeline(StreamSpec(width=128, height=128))
        self.owner = Owner(lambda: self.pipeline)  # type: ignore[arg-type,return-value]
        self.back: queue.Queue[tuple[str, JobResult]] = queue.Queue()

    def job(self, session: str, frame_id: int | None, prompt: str = "plain", mask: Any = None) -> Job:
        """frame_id None: a job without a frame."""
        inputs: Any = SimpleNamespace(settings=Settings(prompt=prompt), mask=mask, picture=None, picture_b=None, names=())
        frame = None if frame_id is None else Frame(frame_id, 0.0, GREY)
        return Job(session, inputs, frame, 0.0, lambda result: self.back.put((session, result)))

    def offer(self, session: str, frame_id: int | None, prompt: str = "plain", mask: Any = None) -> Job | None:
        return self.owner.offer(self.job(session, frame_id, prompt, mask))

    def results(self, count: int) -> dict[str, JobResult]:
        """The next results: session → result."""
        return dict(self.back.get(timeout=10) for _ in range(count))

    def block(self) -> None:
        """The model is busy with another session until `pipeline.hold` is set."""
        self.pipeline.hold.clear()
        self.pipeline.entered.clear()
        self.offer("blocker", 1)
        assert self.pipeline.entered.wait(10)
