"""The model's owners, one per device, and which of them each session belongs to. With one device it is that owner and no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from pipelines import StreamPipeline, StreamSpec
from studio.model.owner import Job, Lost, Owner
from studio.model.placement import Load, least_loaded

Told = Callable[[frozenset[str], Lost], None]
"""Told, on an owner's thread, which sessions have another pipeline now, and which frames went with the old one."""


class Fleet:
    """`place` and `forget` belong to the event loop; a session is placed before it offers anything."""

    def __init__(
        self, factory: Callable[[StreamSpec], StreamPipeline], specs: Sequence[StreamSpec], clock: Callable[[], float]
    ) -> None:
        self.owners = [Owner(partial(factory, spec), clock) for spec in specs]
        self._homes: dict[str, Owner] = {}

    @property
    def loaded(self) -> Future[StreamPipeline]:
        """The first owner's, once all have loaded; before that, that of one which has not, or has failed."""
        for owner in self.owners:
            if not owner.loaded.done() or owner.loaded.exception() is not None:
                return owner.loaded
        return self.owners[0].loaded

    def start(self, stepped: Callable[[int], None]) -> None:
        """Begin to load the models. `stepped` is told the sessions of every step, on the owners' threads."""
        for owner in self.owners:
            owner.stepped = stepped
            owner.start()

    def place(self, session: str) -> None:
        """Give a new session to the least loaded device."""
        counts = [sum(home is owner for home in self._homes.values()) for owner in self.owners]
        loads = [Load(count, *owner.load) for count, owner in zip(counts, self.owners, strict=True)]
        self._homes[session] = self.owners[least_loaded(loads)]

    def pipeline(self, session: str) -> StreamPipeline:
        """The pipeline that serves a session, once all are loaded."""
        return self._homes.get(session, self.owners[0]).loaded.result(0)

    def pipelines(self) -> list[StreamPipeline]:
        """Those that are loaded."""
        done = [owner.loaded for owner in self.owners if owner.loaded.done()]
        return [loaded.result() for loaded in done if loaded.exception() is None]

    def runs(self, pipeline: StreamPipeline) -> bool:
        """Is it one of those that run, or has another taken its place?"""
        return any(owner.loaded.done() and owner.loaded.result(0) is pipeline for owner in self.owners)

    def neighbours(self, session: str) -> frozenset[str]:
        """The sessions on the same device, itself included."""
        home = self._homes.get(session)
        return frozenset(name for name, owner in list(self._homes.items()) if owner is home)

    def offer(self, job: Job) -> Job | None:
        """Any thread. As Owner.offer; a session that is over gets its job back."""
        home = self._homes.get(job.session)
        return job if home is None else home.offer(job)

    def forget(self, session: str) -> None:
        """The session is over."""
        home = self._homes.pop(session, None)
        if home is not None:
            home.forget(session)

    def swap(self, pipelines: Sequence[StreamPipeline], told: Told) -> list[Future[None]]:
        """As Owner.swap, for all owners: each goes on with its pipeline after its present step."""
        return [
            owner.swap(pipeline, partial(self._swapped, owner, told))
            for owner, pipeline in zip(self.owners, pipelines, strict=True)
        ]

    def _swapped(self, owner: Owner, told: Told, lost: Lost) -> None:
        told(frozenset(name for name, home in list(self._homes.items()) if home is owner), lost)

    def stalled_s(self) -> float:
        """For how long the longest of the present steps has been running; 0 between steps."""
        return max(owner.stalled_s() for owner in self.owners)

    def close(self) -> None:
        """End the threads after their present steps, and release the models."""
        for owner in self.owners:
            owner.close()
