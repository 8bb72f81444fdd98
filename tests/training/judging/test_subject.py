"""What is judged is what users see: the engine with the settings that sessions begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipelines import Entry, Settings
from studio.cli.serve_options import OPENING
from training.judging import subject


class Pipeline:
    """Remembers the settings of its turns, and answers with black."""

    def __init__(self) -> None:
        self.seen: list[Settings] = []

    def prepare(self, settings: Settings) -> None: ...

    def open(self, settings: Settings) -> None: ...

    def step(self, entries: Sequence[Entry]) -> list[Any]:
        self.seen += [entry.settings for entry in entries]
        return [self for _ in entries]

    @property
    def pixels(self) -> Any:
        return self

    def numpy(self) -> subject.Picture:
        return np.zeros((4, 4, 3), np.uint8)


def test_pictures_are_judged_with_what_sessions_begin_with(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline()
    monkeypatch.setattr(subject, "load", lambda spec: pipeline)
    frames = [np.zeros((4, 4, 3), np.uint8)] * 2
    assert len(subject.Engine().clip(frames, "ink", strength=0.4)) == 2
    subject.Engine(begun={}).picture(frames[0], "ink")
    (first, second, plain), begun = pipeline.seen, OPENING["pocket"]
    assert first == second and (first.prompt, first.strength) == ("ink", 0.4)
    assert {key: first.flat()[key] for key in begun if key != "prompt"} == {k: v for k, v in begun.items() if k != "prompt"}
    assert plain.flat() == Settings(prompt="ink").patched({"stream_batch.enabled": False}).flat()
