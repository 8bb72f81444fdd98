"""A deterministic engine for server tests: it tints pictures by prompt. Tests can make it fail, wait or batch.

The tint of "red", "green" and "blue" is that colour; other prompts leave the picture unchanged. A state counts its own steps, so
a fresh state is visible. Every frame is probed while the probe is on; the reference is the picture without its tint.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from pipelines import Entry, HostPicture, Output, Settings, SettingsError, StageTimings, StreamSpec, Vocabulary, Word

TINTS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@dataclass
class OnItsWay:
    """A frame in the fake's stream batch, and the number of its remaining steps."""

    frame_id: int
    pixels: Any
    left: int


@dataclass
class FakeState:
    settings: Settings
    steps: int = 0
    ring: list[OnItsWay] = field(default_factory=list)
    masks: list[Any] = field(default_factory=list)
    pictures: list[Any] = field(default_factory=list)
    seconds: list[Any] = field(default_factory=list)
    names: Any = ()
    turn: Any = None  # the entry that goes on in a later step
    done: int = 0  # rows of it
    shown: Any = None  # (frame id, pixels) of the last picture

    @property
    def in_flight(self) -> int:
        return len(self.frames)

    @property
    def frames(self) -> tuple[int, ...]:
        begun = () if self.turn is None or self.turn.frame is None else (self.turn.frame.id,)
        return (*(frame.frame_id for frame in self.ring), *begun)

    def set_mask(self, mask: Any) -> None:
        self.masks.append(mask)

    def set_names(self, names: Any) -> None:
        self.names = names

    def set_picture(self, picture: Any, second: bool = False) -> None:
        (self.seconds if second else self.pictures).append(picture)


class FakePipeline:
    """`step_s`: seconds per step. `rows`: of the work of a frame with the prompt "heavy", others have one. A prompt of "boom"
    raises. With settings.steps n a frame leaves in the n-th step from its own on, whether or not frames enter with the others;
    it takes those before it along.
    """

    def __init__(self, spec: StreamSpec, step_s: float = 0.0, rows: int = 8) -> None:
        backend = "eager" if spec.backend == "auto" else spec.backend
        dtype = "float32" if spec.dtype == "auto" else spec.dtype
        attention = "sdpa" if spec.attention == "auto" else spec.attention
        self.spec = replace(spec, backend=backend, dtype=dtype, device="cpu", attention=attention)
        self.hires_choices = StreamSpec.HIRES
        self.info = SimpleNamespace(
            name="fake", title="A fake", native_size=128, max_steps=8, guidance_trained=True, prompts=("red", "green", "blue"),
            controls=(), picture=None, takes_pictures=False, presets=(),
            vocabulary=Vocabulary((), (Word("night", "Night", "at night", "light"),), (Word("sea", "Sea", "sea", "scene"),)),
        )  # fmt: skip
        self.step_s = step_s
        self.rows = rows
        self.measured: list[tuple[Counter[Any], float]] | None = None
        self.rehearsed: list[Settings] = []
        self.threads: set[str] = set()
        self.batches: list[int] = []
        self.built: list[int] = [1]
        self.opened: list[FakeState] = []
        self.hold = threading.Event()
        self.hold.set()
        self.entered = threading.Event()
        self.closed = False
        self.refined: list[bool] = []  # whether each refining step was to show its picture
        self.refine_fails = False
        self.graphs = SimpleNamespace(
            portable=lambda key, ahead=False: False,
            ready=lambda key: key in self.built,
            build=lambda key, ahead=False: self.built.append(key),
            bytes=0,
            need=lambda keys: setattr(self, "needed", set(keys)),
        )
        self.needed: set[int] = set()
        self.pictures = SimpleNamespace(style=lambda picture: None, check=lambda style: None)

    def graphs_for(self, settings: Settings, sessions: int = 1, pictured: bool = False, names: Any = ()) -> tuple[int, ...]:
        return tuple(range(1, settings.steps + 1))

    def understood(self, settings: Settings, names: Any = ()) -> Any:
        """The tints are understood, every other prompt is unknown, and longer ones than 40 characters are cut."""
        typed = {"setting": "prompt", "words": settings.prompt}
        known = [{**typed, "meaning": settings.prompt, "kind": "look", "by": "name"}] if settings.prompt in TINTS else []
        unknown = [] if known else [{**typed, "nearest": None, "message": f"no style known for {settings.prompt!r}"}]
        cut = [{"setting": "prompt", "tokens": 40, "kept": settings.prompt[:40], "lost": settings.prompt[40:], "message": "cut"}]
        lists = {"understood": known, "unknown": unknown, "cut": cut if settings.prompt[40:] else []}
        return SimpleNamespace(listed=lambda: lists)

    def check(self, settings: Settings) -> None:
        if settings.steps > self.spec.max_steps:
            raise SettingsError("steps", f"{settings.steps} is out of range; this stream allows 1 to {self.spec.max_steps}")

    def rebuilt(self, spec: StreamSpec) -> FakePipeline:
        """The factory of a server: this pipeline for its own spec, a new one for another spec."""
        return self if spec.width == self.spec.width and spec.backend == "auto" else FakePipeline(spec, self.step_s)

    def lora_change(self, spec: StreamSpec, offline: bool = False) -> Any:
        """The fake changes no LoRA in place."""

    def rehearse(self, settings: Settings, sessions: int = 1) -> None:
        self.check(settings)
        self.rehearsed.append(settings)

    def open(self, settings: Settings) -> Any:
        state = FakeState(settings)
        self.opened.append(state)
        return state

    def demand(self, state: Any, frame: Any, settings: Settings) -> Counter[Any]:
        return Counter({("full", 0): self._left(state, settings)})

    def _left(self, state: Any, settings: Settings) -> int:
        begun = None if state is None else state.turn
        prompt = settings.prompt if begun is None else begun.settings.prompt
        return (self.rows if prompt == "heavy" else 1) - (0 if state is None else state.done)

    def advance(self, entries: Sequence[Entry]) -> list[Output | None]:
        states: list[Any] = [entry.state for entry in entries]
        rows = [self._left(entry.state, entry.settings) for entry in entries]
        rows = [left if entry.rows is None else min(left, entry.rows) for left, entry in zip(rows, entries, strict=True)]
        self.measured = [(Counter({("full", 0): sum(rows)}), self.step_s)]
        self.threads.add(threading.current_thread().name)
        self.batches.append(len(entries))
        self.entered.set()
        assert self.hold.wait(20), "a test did not release the model"
        if self.step_s:
            time.sleep(self.step_s)
        if any(entry.settings.prompt == "boom" for entry in entries):
            for state in states:
                state.turn, state.done = None, 0
            raise RuntimeError("boom")
        return [self._part(entry, count) for entry, count in zip(entries, rows, strict=True)]

    def _part(self, entry: Entry, rows: int) -> Output | None:
        state: Any = entry.state
        state.turn = state.turn or entry
        state.done += rows
        if self._left(state, entry.settings):
            return None
        entry, state.turn, state.done = state.turn, None, 0
        return self._one(entry)

    def refinement(self, state: Any, settings: Settings) -> Any:
        """As many pictures as steps are missing, each a little brighter than the one before; None where none is."""
        missing = settings.refine.steps - settings.steps
        if missing <= 0 or state.shown is None:
            return None
        return SimpleNamespace(left=missing, over=False, shown=state.shown, version=settings.version)

    def refine(self, refinement: Any, shows: bool = True) -> Output | None:
        self.refined.append(shows)
        self.entered.set()
        assert self.hold.wait(20), "a test did not release the model"
        if self.refine_fails:
            raise RuntimeError("refining broke")
        refinement.left -= 1
        refinement.over = refinement.left == 0
        frame_id, pixels = refinement.shown
        refinement.shown = frame_id, np.minimum(pixels, 245) + 10
        if not (shows or refinement.over):
            return None
        timings = StageTimings(denoise=1.0, decode=0.5)
        return Output(frame_id, refinement.version, HostPicture(refinement.shown[1]), "generated", timings)

    def close(self) -> None:
        self.closed = True

    def _one(self, entry: Entry) -> Output:
        state: Any = entry.state
        state.steps += 1
        timings = StageTimings(encode=0.1, denoise=self.step_s * 1000, decode=0.2)
        version, frame = entry.settings.version, entry.frame
        if frame is not None:
            state.ring.append(OnItsWay(frame.id, frame.pixels, entry.settings.steps))
        for one in state.ring:
            one.left -= 1
        finished = [one for one in state.ring if one.left <= 0]
        if not finished:
            return Output(frame.id if frame is not None else -1, version, None, "warming", timings)
        frame_id, pixels = finished[-1].frame_id, finished[-1].pixels
        state.ring = [one for one in state.ring if one.frame_id > frame_id]
        height, width = self.spec.height, self.spec.width
        source = np.full((height, width, 3), 128, np.uint8) if pixels is None else pixels
        assert source.shape == (height, width, 3), source.shape
        reference = HostPicture(source) if entry.settings.probe.enabled else None
        tint = TINTS.get(entry.settings.prompt)
        if tint is not None:
            source = (source // 2 + np.array(tint, np.uint8) // 2).astype(np.uint8)
        state.shown = frame_id, source
        return Output(frame_id, version, HostPicture(source), "generated", timings, reference=reference)
