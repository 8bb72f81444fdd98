"""Which graphs the connected sessions need. Each session that comes, goes or changes its settings changes the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines import Settings
from studio.model.build_process import BuildProcess
from studio.model.build_queue import BuildQueue
from studio.model.change import fitted_settings
from studio.model.fleet import Fleet
from studio.visit.seats import Seats

if TYPE_CHECKING:
    from pipelines import StreamPipeline


@dataclass(frozen=True, slots=True)
class GraphBuild:
    """A graph to be built. ahead: no session needs it yet."""

    pipeline: StreamPipeline
    key: Any
    ahead: bool = False


class GraphNeeds:
    """Belongs to the event loop, but for `ahead`."""

    def __init__(self, fleet: Fleet, seats: Seats, process: BuildProcess | None = None) -> None:
        """process: builds the graphs that can be read from disk afterwards; with None this process builds all of them."""
        self._fleet, self._seats, self._process = fleet, seats, process
        self._empty = True
        hooks = () if process is None else (process.interrupt, process.stop)
        self._queue: BuildQueue[GraphBuild] = BuildQueue(self._build, lambda: self._empty, *hooks)
        self._reads: BuildQueue[GraphBuild] = BuildQueue(self._build)

    @property
    def bytes(self) -> int:
        """Estimated memory of the graphs beside those that are always there."""
        return sum(pipeline.graphs.bytes for pipeline in self._fleet.pipelines())

    def prepare(self, settings: Settings, session: str) -> Future[None]:
        """Build the graphs that this session's settings use best, beside the stream that keeps running on those it has."""
        pipeline, keys = self._needed({session: settings})[session]
        slow, quick = self._missing(pipeline, keys)
        return _both(self._reads.request(session, quick), self._queue.request(session, slow))

    def drop(self, session: str) -> None:
        """The session has left: nothing more is built for it."""
        for queue in (self._reads, self._queue):
            queue.drop(session)
        self.sessions_changed()

    def sessions_changed(self) -> None:
        """A session has come or gone: all others may now need graphs for another number of rows."""
        self._empty = not self._seats.connected
        if len(self._fleet.pipelines()) == len(self._fleet.owners):
            for session, (pipeline, keys) in self._needed().items():
                slow, quick = self._missing(pipeline, keys)
                self._reads.revise(session, quick)
                self._queue.revise(session, slow)
        self._queue.recheck()

    def ahead(self, opening: Settings) -> None:
        """Build what several sessions at once will need, while none is connected. Any thread."""
        wanted = [
            GraphBuild(pipeline, key, ahead=True)
            for pipeline in self._fleet.pipelines()
            for count in range(1, self._seats.limits.max_sessions + 1)
            for key in pipeline.graphs_for(fitted_settings(opening, pipeline.check)[0], count, pipeline.info.takes_pictures)
        ]
        self._queue.ahead(list(dict.fromkeys(wanted)))

    def close(self, timeout_s: float) -> bool:
        """Nothing more is built. False if the present graph takes longer than that."""
        if self._process is not None:
            self._process.close()
        return self._reads.close(timeout_s) & self._queue.close(timeout_s)

    def _needed(self, instead: Mapping[str, Settings] | None = None) -> dict[str, tuple[StreamPipeline, tuple[Any, ...]]]:
        """The graphs that each session present uses best, by its name; the pipelines keep these. instead: settings that sessions
        are about to have."""
        present = self._seats.present()
        wishes = {seat.session.name: seat.session.settings for seat in present} | dict(instead or {})
        pictured = {seat.session.name for seat in present if seat.session.pictured}
        names = {seat.session.name: (seat.session.names,) for seat in present if len(seat.session.names)}
        on = {name: self._fleet.pipeline(name) for name in wishes}
        counts = Counter(map(id, on.values()))
        found = {
            name: (on[name], on[name].graphs_for(wish, counts[id(on[name])], name in pictured, *names.get(name, ())))
            for name, wish in wishes.items()
        }
        for pipeline in self._fleet.pipelines():
            pipeline.graphs.need(key for other, keys in found.values() if other is pipeline for key in keys)
        return found

    def _missing(self, pipeline: StreamPipeline, keys: Sequence[Any]) -> tuple[list[GraphBuild], list[GraphBuild]]:
        """What another process is to build, and what this one reads from disk or can only build itself. A read takes tenths of
        a second and does not wait for the builds of others."""
        works = [GraphBuild(pipeline, key) for key in keys if not pipeline.graphs.ready(key)]
        slow = [work for work in works if self._process is not None and pipeline.graphs.portable(work.key)]
        return slow, [work for work in works if work not in slow]

    def _build(self, work: GraphBuild) -> None:
        """In the queue's thread."""
        if not self._fleet.runs(work.pipeline):
            return
        graphs = work.pipeline.graphs
        fate = "failed"
        if self._process is not None and not graphs.ready(work.key) and graphs.portable(work.key, work.ahead):
            fate = self._process.build(work.pipeline.spec, work.key)
        if fate != "interrupted":
            graphs.build(work.key, ahead=work.ahead)


def _both(one: Future[None], other: Future[None]) -> Future[None]:
    """Ends when both have ended."""
    found: Future[None] = Future()
    one.add_done_callback(lambda _: other.add_done_callback(lambda _: found.set_result(None)))
    return found
