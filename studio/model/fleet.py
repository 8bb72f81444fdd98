"""The model's owners, one per device, and the one that each session is assigned to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from pipelines import StreamSpec
from studio.model.jobs import Job, LostFrames
from studio.model.owner import Owner
from studio.model.placement import Load, least_loaded

if TYPE_CHECKING:
    from pipelines import StreamPipeline

OnSwapped = Callable[[frozenset[str], LostFrames], None]
"""Called on an owner's thread with the sessions that have another pipeline now, and the frames that went with the old one."""


class Fleet:
    """Event loop only, but for `offer`. A session is assigned before it offers a job."""

    def __init__(
        self, factory: Callable[[StreamSpec], StreamPipeline], specs: Sequence[StreamSpec], clock: Callable[[], float]
    ) -> None:
        self.owners = [Owner(partial(factory, spec), clock) for spec in specs]
        self._assigned: dict[str, Owner] = {}

    @property
    def loaded(self) -> Future[StreamPipeline]:
        """The first owner's, once all have loaded; before that, that of one which has not, or has failed."""
        for owner in self.owners:
            if not owner.loaded.done() or owner.loaded.exception() is not None:
                return owner.loaded
        return self.owners[0].loaded

    def start(self, on_step: Callable[[int], None]) -> None:
        """Begin to load the models. on_step: called on the owners' threads with the number of sessions of each step."""
        for owner in self.owners:
            owner.on_step = on_step
            owner.start()

    def assign(self, session: str) -> None:
        """Give a new session to the least loaded device."""
        counts = [sum(one is owner for one in self._assigned.values()) for owner in self.owners]
        loads = [Load(count, *owner.load) for count, owner in zip(counts, self.owners, strict=True)]
        self._assigned[session] = self.owners[least_loaded(loads)]

    def pipeline(self, session: str) -> StreamPipeline:
        """The pipeline that serves a session, once all are loaded."""
        return self._assigned.get(session, self.owners[0]).loaded.result(0)

    def pipelines(self) -> list[StreamPipeline]:
        """Those that are loaded."""
        done = [owner.loaded for owner in self.owners if owner.loaded.done()]
        return [loaded.result() for loaded in done if loaded.exception() is None]

    def runs(self, pipeline: StreamPipeline) -> bool:
        """Is it one of those that run? A swap may have replaced it."""
        return any(owner.loaded.done() and owner.loaded.result(0) is pipeline for owner in self.owners)

    def neighbours(self, session: str) -> frozenset[str]:
        """The sessions on the same device, itself included."""
        owner = self._assigned.get(session)
        return frozenset(name for name, one in list(self._assigned.items()) if one is owner)

    def offer(self, job: Job) -> Job | None:
        """Any thread. As Owner.offer; returns the job of a session that has ended."""
        owner = self._assigned.get(job.session)
        return job if owner is None else owner.offer(job)

    def forget(self, session: str) -> None:
        """The session has ended."""
        owner = self._assigned.pop(session, None)
        if owner is not None:
            owner.forget(session)

    def swap(self, pipelines: Sequence[StreamPipeline], on_swapped: OnSwapped) -> list[Future[None]]:
        """As Owner.swap, for all owners: each takes its pipeline after its present step."""
        return [
            owner.swap(pipeline, partial(self._swapped, owner, on_swapped))
            for owner, pipeline in zip(self.owners, pipelines, strict=True)
        ]

    def alter(self, how: Sequence[Callable[[StreamPipeline], object]], on_altered: OnSwapped) -> list[Future[None]]:
        """As Owner.alter, for all owners, each in its own way."""
        return [owner.alter(one, partial(self._swapped, owner, on_altered)) for owner, one in zip(self.owners, how, strict=True)]

    def _swapped(self, owner: Owner, on_swapped: OnSwapped, lost: LostFrames) -> None:
        on_swapped(frozenset(name for name, one in list(self._assigned.items()) if one is owner), lost)

    def stalled_s(self) -> float:
        """For how long the longest of the present steps has been running; 0 between steps."""
        return max(owner.stalled_s() for owner in self.owners)

    def close(self) -> None:
        """End the threads after their present steps, and release the models."""
        for owner in self.owners:
            owner.close()
