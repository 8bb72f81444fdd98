"""The jobs of the model's thread: what is submitted, what runs, what comes back, and what is to change between two steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pipelines import Frame, Mask, Output, PictureStyle, Pixels, Settings, StyleNames

if TYPE_CHECKING:
    from pipelines import StreamPipeline, StreamState


class SessionInputs(Protocol):
    """What a session draws with. Each attribute is replaced as a whole, so that any thread may read it."""

    settings: Settings
    mask: Mask | None
    picture: Pixels | PictureStyle | None
    picture_b: Pixels | PictureStyle | None
    names: StyleNames


@dataclass(frozen=True, slots=True)
class JobResult:
    """Either output or error is None. in_flight: frames of the session in the stream batch. wait_ms: from ready to taken_at, when
    the first step with the frame began, in seconds of the owner's clock."""

    output: Output | None
    error: str | None
    in_flight: int
    wait_ms: float
    taken_at: float


@dataclass(frozen=True, slots=True)
class Job:
    """One frame of a session for the model, or None, which only lets the stream batch move on.

    on_done: called on the owner's thread, once. on_turn_near: called there at the beginning of each step after which it is
    probably this job's turn. on_unused: to be called instead by the caller that `offer` returns the job to. queued: wait
    behind the session's older jobs, and do not replace them. on_refined: called on the owner's thread with each better picture of
    the frame that is shown, while the session rests; None if none is wanted.
    """

    session: str
    inputs: SessionInputs
    frame: Frame | None
    ready_at: float
    on_done: Callable[[JobResult], None]
    on_turn_near: Callable[[], None] = lambda: None
    on_unused: Callable[[], None] = lambda: None
    queued: bool = False
    on_refined: Callable[[Output], None] | None = None


@dataclass(slots=True)
class SessionState:
    """The engine's state of a session, and the mask and picture prompts that it has been given."""

    state: StreamState
    mask: Mask | None = None
    picture: Pixels | PictureStyle | None = None
    picture_b: Pixels | PictureStyle | None = None
    names: StyleNames | None = None


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that is in the present step, or of whose frame some parts are done. taken_at: when its first step began, in seconds.
    rows: how many it may have in the present step; None for all."""

    job: Job
    taken_at: float
    rows: int | None = None


LostFrames = Mapping[str, tuple[int, ...]]
"""Session → ids of its frames that were inside the stream batch of the pipeline that was replaced."""


@dataclass(frozen=True, slots=True)
class Swap:
    """A pipeline that replaces the present one after its step, or None and what is done to the present one. on_swapped: called
    on the owner's thread after `done` is set."""

    pipeline: StreamPipeline | None
    on_swapped: Callable[[LostFrames], None]
    done: Future[None]
    alter: Callable[[StreamPipeline], object] = lambda pipeline: None
