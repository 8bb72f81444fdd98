"""Which waiting sessions enter the next step, and with how much of their frame. Pure: no clock, no threads, no tensors.

A session waits with its newest frame, whose demand is known: a number of rows of each kind of pass. Four questions:

- **Whose turn is it?** Device time is shared by start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996), as the virtual
  token counter does for continuous batching (Sheng et al.: OSDI 2024, arXiv 2401.00588). A session's tag is the device time
  that it has had; the waiting session with the smallest tag is the head, and the head is always served. A session with more rows
  gets fewer frames, not more device. A session that returns starts at the head's tag: idling earns no credit. No tag runs more
  than `lead` (the most expensive part of any session's frame) ahead of the head's, so device time that was taken while
  no other session was waiting soon stops to count.
- **How much of its frame?** A client with one or two frames under way has nothing in the line while its answer travels. If a
  frame seven times as dear began at that moment, as a whole, the client would get an eighth of the device and not half. So a
  frame that costs more than `part` times what the cheapest frame of another present session costs is done in parts of at most
  that much, one row at least, and others enter between them. A frame of the only session is never divided.
- **How many with it?** Steps take longer with more rows, and every session in a step waits for all of it. Of the batches that
  cost at most `stretch` times what the head would cost alone, the smallest is taken that does nearly as much work per second as
  the best. A CPU, where two rows cost nearly twice one, takes few; a GPU takes as many as its curve is flat for. A part rides
  with another head only if its session has not had more than that one: else the lighter one would wait for it in each step.
- **Which?** Rows of one kind of pass share its calls. So besides "the next n in the order of tags", "the next n of the head's
  kind" is weighed, by the same measure.

What a batch costs is measured, stage by stage (`Costs`).

Bound (tests hold it to that): while a session waits, the other sessions j head steps for at most Σⱼ (lead + pⱼ) seconds of
their own cost, pⱼ j's dearest part: such a step is headed by a j with a smaller tag, and raises it by what the part costs. So
at most Σⱼ (⌊lead / cⱼ⌋ + 1) steps pass, cⱼ j's cheapest part; sessions beside a head make its step `stretch` times as long at
most. A session that comes back while another's part is computed waits for no more than that part until it may be the head.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Demand = Mapping[Any, int]
"""Rows by call. A call is (kind of pass, calls of the network before it in the same step): its rows are computed together."""


@dataclass(frozen=True, slots=True)
class WaitingSession:
    """A session that waits since `ready_at` (seconds, of any clock): a fresher frame does not send it back in the line."""

    session: str
    ready_at: float
    demand: Demand


@dataclass(frozen=True, slots=True)
class Policy:
    """stretch: a step may cost this many times what its head would alone. least_s: or this, where that is less; shorter waits are
    not seen. slack: share of work per second that is given up for a shorter step. widest: sessions in a step. part: a part of a
    frame may cost this many times the cheapest frame of another session. present_s: a session that waited within so many
    seconds of device time is present.
    """

    stretch: float = 3.0
    part: float = 1.25
    present_s: float = 1.0
    least_s: float = 0.010
    slack: float = 0.05
    widest: int = 16


class Costs:
    """Seconds that a call of some kind takes with so many rows, learnt from stages of steps: medians of the last few.

    Between measured row counts it is interpolated. Beyond the largest, more rows are assumed to be free, up to twice as many:
    so larger batches get tried. Measurements expire when they are not repeated for long, and such counts get tried again.
    """

    PRIOR_S = 0.020  # one row of anything, before the first step
    LEAST_S = 1e-6  # a clock may be coarse; nothing is free
    SAMPLES = 9
    MEMORY = 1500  # stages of steps

    def __init__(self) -> None:
        self._seen: dict[Hashable, dict[int, deque[float]]] = {}
        self._middle: dict[Hashable, dict[int, float]] = {}  # the medians of those
        self._last: dict[tuple[Hashable, int], int] = {}
        self._steps = 0

    def of(self, demand: Demand) -> float:
        """What a step with this demand is expected to take."""
        return sum(self._call(kind, rows) for (kind, _), rows in demand.items() if rows)

    def allows(self, demand: Demand) -> bool:
        """False for a step much larger than any so far, whose cost is unknown."""
        return all(rows <= 2 * max(self._seen.get(kind, {0: None})) for (kind, _), rows in demand.items())

    def observe(self, demand: Demand, seconds: float) -> None:
        """A step, or a stage of it, with this demand took `seconds`. The time of several calls is split as expected."""
        expected = {call: self._call(call[0], rows) for call, rows in demand.items() if rows}
        total = sum(expected.values())
        self._steps += 1
        for (kind, place), share in expected.items():
            rows = demand[kind, place]
            samples = self._seen.setdefault(kind, {}).setdefault(rows, deque(maxlen=self.SAMPLES))
            samples.append(max(seconds, self.LEAST_S) * share / total)
            self._middle.setdefault(kind, {})[rows] = median(samples)
            self._last[kind, rows] = self._steps
        self._forget()

    def _forget(self) -> None:
        for (kind, rows), step in list(self._last.items()):
            if self._steps - step > self.MEMORY and len(self._seen[kind]) > 1:
                del self._seen[kind][rows], self._middle[kind][rows], self._last[kind, rows]

    def _call(self, kind: Hashable, rows: int) -> float:
        seen = self._middle.get(kind)
        if not seen:
            return self.PRIOR_S * rows
        if rows in seen:
            return seen[rows]
        below, above = max((n for n in seen if n < rows), default=0), min((n for n in seen if n > rows), default=0)
        if not above:
            return seen[below]
        low = seen[below] if below else 0.0
        return low + (seen[above] - low) * (rows - below) / (above - below)


@dataclass(frozen=True, slots=True)
class Part:
    """What a session would do in the next step: the first `rows` of what it waits with. cost: seconds, alone. divided: the frame
    is done in several parts. last: this one ends it."""

    session: str
    tag: float
    demand: Demand
    rows: int
    cost: float
    divided: bool
    last: bool


class Scheduler:
    """Chooses, and keeps what each session has had. Belongs to one model's owner."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.costs = Costs()
        self._tags: dict[str, float] = {}  # device seconds had, on the scale of `_now`
        self._charges: dict[str, float] = {}  # what each session's last part cost
        self._frames: dict[str, float] = {}  # what its last whole frame cost
        self._begun: dict[str, float] = {}  # what the parts of its present frame have cost so far
        self._seen: dict[str, float] = {}  # when it waited last, in device seconds
        self._spent = 0.0
        self._now = 0.0  # the tag of the last head

    @property
    def lead(self) -> float:
        """How far a tag may run ahead of the head's, in seconds: the dearest part of any session."""
        return max(self._charges.values(), default=0.0)

    @property
    def load(self) -> tuple[int, float]:
        """Sessions that have been served, and the seconds that one frame of each takes, together."""
        return len(self._charges), sum(self._frames.get(session, charge) for session, charge in self._charges.items())

    def choose(self, waiting: Sequence[WaitingSession]) -> dict[str, int]:
        """The sessions of the next step, the head first, and how many rows of their demand they may have in it; empty if none
        waits. They are charged at once. A session that gets less than its demand waits again with the rest.
        """
        if not waiting:
            return {}
        for one in waiting:
            self._seen[one.session] = self._spent
        parts = self._parts(waiting)
        self._now = parts[0].tag
        chosen = self._fill(parts)
        self._charges |= {part.session: part.cost for part in chosen}
        lead = self.lead
        for part in chosen:
            self._tags[part.session] = min(part.tag + part.cost, self._now + lead)
            self._begun[part.session] = self._begun.get(part.session, 0.0) + part.cost
            if part.last:
                self._frames[part.session] = self._begun.pop(part.session)
        return {part.session: part.rows for part in chosen}

    def preview(self, waiting: Sequence[WaitingSession]) -> list[str]:
        """The sessions that `choose` would choose if only these waited; none is charged."""
        return [part.session for part in self._fill(self._parts(waiting))] if waiting else []

    def observe(self, demand: Demand, seconds: float) -> None:
        """The last step, or a stage of it, had these rows and took `seconds`."""
        self._spent += seconds
        self.costs.observe(demand, seconds)

    def restart(self, session: str) -> None:
        """Its frame begins anew: the parts that were done are lost."""
        self._begun.pop(session, None)

    def forget(self, session: str) -> None:
        """The session has ended."""
        for known in (self._tags, self._charges, self._frames, self._begun, self._seen):
            known.pop(session, None)

    def _tag(self, session: str) -> float:
        return max(self._tags.get(session, self._now), self._now)

    def _parts(self, waiting: Sequence[WaitingSession]) -> list[Part]:
        """What each waiting session would do next, in the order of tags."""
        frames = {session: cost for session, cost in self._frames.items() if self._present(session)}
        for one in waiting:
            if one.session not in frames:
                frames[one.session] = self._begun.get(one.session, 0.0) + self.costs.of(one.demand)
        cheapest = sorted(frames, key=frames.__getitem__)[:2]
        order = sorted(waiting, key=lambda one: (self._tag(one.session), one.ready_at))
        known: dict[Any, tuple[Demand, int, float]] = {}  # many wait with the same
        parts = []
        for one in order:
            beside = min((frames[session] for session in cheapest if session != one.session), default=math.inf)
            key = beside, *one.demand.items()
            if key not in known:
                known[key] = self._cut(one.demand, beside)
            parts.append(self._part(one, *known[key]))
        return parts

    def _present(self, session: str) -> bool:
        return self._spent - self._seen.get(session, -math.inf) <= self.policy.present_s

    def _part(self, one: WaitingSession, demand: Demand, rows: int, cost: float) -> Part:
        last = rows >= sum(one.demand.values())
        return Part(one.session, self._tag(one.session), demand, rows, cost, not last or one.session in self._begun, last)

    def _cut(self, demand: Demand, cheapest: float) -> tuple[Demand, int, float]:
        """All of a demand, or as many rows as may be done at a time beside a session with frames that cheap, and their cost."""
        rows = sum(demand.values())
        bound = self.policy.part * cheapest
        if cheapest < math.inf and not self._fits(demand, bound):
            rows = next((n for n in range(rows - 1, 1, -1) if self._fits(leading_rows(demand, n), bound)), 1)
            demand = leading_rows(demand, rows)
        return demand, rows, self.costs.of(demand)

    def _fits(self, demand: Demand, bound: float) -> bool:
        return self.costs.of(demand) <= bound and self.costs.allows(demand)

    def _fill(self, order: Sequence[Part]) -> Sequence[Part]:
        """The head's batch: the smallest of those within bounds that do nearly the most work per second."""
        head, policy = order[0], self.policy
        order = [one for one in order if not one.divided or one.tag <= head.tag]
        kin = [one for one in order if {kind for kind, _ in one.demand} <= {kind for kind, _ in head.demand}]
        orders = [order] if len(kin) == len(order) else [order, kin]
        bound = max(policy.stretch * head.cost, policy.least_s)
        batches = [batch for each in orders for batch in self._prefixes(each, bound)]
        enough = (1.0 - policy.slack) * max(batch.rate for batch in batches)
        return min(
            (batch for batch in batches if batch.rate >= enough), key=lambda batch: (len(batch.members), -batch.rate)
        ).members

    def _prefixes(self, order: Sequence[Part], bound: float) -> Iterable[_Batch]:
        rows: Counter[Any] = Counter()
        work = 0.0
        for count, one in enumerate(order[: self.policy.widest], 1):
            rows.update(one.demand)
            work += one.cost
            cost = self.costs.of(rows)
            if count == 1 or (cost <= bound and self.costs.allows(rows)):
                yield _Batch(order[:count], work / cost if cost else 1.0)


@dataclass(frozen=True, slots=True)
class _Batch:
    """rate: seconds of work per second, by what each part would take alone."""

    members: Sequence[Part]
    rate: float


def leading_rows(demand: Demand, rows: int) -> Demand:
    """The first `rows` rows of a demand."""
    taken: dict[Any, int] = {}
    for call, count in demand.items():
        if rows <= 0:
            break
        taken[call] = min(count, rows)
        rows -= count
    return taken
