"""Which waiting sessions enter the next step. Pure: no clock, no threads, no tensors; a function of what it was told.

A session waits with its freshest frame, whose demand is known: so many rows of this or that kind of pass. Three questions:

- **Whose turn is it?** Device time is shared by start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996), as the virtual
  token counter does for continuous batching (Sheng et al.: OSDI 2024, arXiv 2401.00588). A session's tag is the device time
  that it has had; who waits with the smallest tag is the head, and the head is always served. Whoever asks for more rows gets
  fewer frames, not more device. A session that comes back starts at the head's tag: idling earns no credit. Nobody's tag runs
  more than `lead` (the dearest frame of any session) ahead of the head's, so what was taken while nobody else wanted it is not
  held against anyone for long.
- **How many with it?** Steps get dearer with rows, and everybody in a step waits for all of it. Of the batches that cost at most
  `stretch` times what the head would cost alone, the smallest is taken that does nearly as much work per second as the best.
  A CPU, where two rows cost nearly twice one, takes few; a GPU takes as many as its curve is flat for.
- **Which?** Rows of one kind of pass share its calls. So besides "the next n in the order of tags", "the next n of the head's
  kind" is weighed, by the same measure.

What a batch costs is measured, step by step (`Costs`).

Bound (tests hold it to that): a waiting session enters after at most Σⱼ (⌊lead / cⱼ⌋ + 1) steps over the others j, cⱼ what j's
frames cost alone: each of those steps is headed by some j with a smaller tag, whose tag it raises by cⱼ.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Demand = Mapping[Any, int]
"""Rows by call. A call is (kind of pass, calls of the network before it in the same step): its rows are computed together."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A session that waits since `ready_at` (seconds, of any clock): a fresher frame does not send it back in the line."""

    session: str
    ready_at: float
    demand: Demand


@dataclass(frozen=True, slots=True)
class Policy:
    """stretch: a step may cost so many times what its head would alone. least_s: or this, where that is less; shorter waits are
    not seen. slack: share of work per second that is given up for a shorter step. widest: sessions in a step.
    """

    stretch: float = 3.0
    least_s: float = 0.010
    slack: float = 0.05
    widest: int = 16


class Costs:
    """Seconds that a call of some kind takes with so many rows, learnt from whole steps: medians of the last few.

    Between measured row counts it is interpolated. Beyond the largest, more rows are believed to be free, up to twice as many:
    so larger batches get tried. What has not been seen for long is forgotten, and gets tried again.
    """

    PRIOR_S = 0.020  # one row of anything, before the first step
    LEAST_S = 1e-6  # a clock may be coarse; nothing is free
    SAMPLES = 9
    MEMORY = 500  # steps

    def __init__(self) -> None:
        self._seen: dict[Hashable, dict[int, deque[float]]] = {}
        self._last: dict[tuple[Hashable, int], int] = {}
        self._steps = 0

    def of(self, demand: Demand) -> float:
        """What a step with this demand is expected to take."""
        return sum(self._call(kind, rows) for (kind, _), rows in demand.items() if rows)

    def allows(self, demand: Demand) -> bool:
        """False for a step much larger than any so far, whose cost nobody can tell."""
        return all(rows <= 2 * max(self._seen.get(kind, {0: None})) for (kind, _), rows in demand.items())

    def observe(self, demand: Demand, seconds: float) -> None:
        """A step with this demand took so long. What several calls took together is split as it was expected to be."""
        expected = {call: self._call(call[0], rows) for call, rows in demand.items() if rows}
        total = sum(expected.values())
        self._steps += 1
        for (kind, place), share in expected.items():
            rows = demand[kind, place]
            samples = self._seen.setdefault(kind, {}).setdefault(rows, deque(maxlen=self.SAMPLES))
            samples.append(max(seconds, self.LEAST_S) * share / total)
            self._last[kind, rows] = self._steps
        self._forget()

    def _forget(self) -> None:
        for (kind, rows), step in list(self._last.items()):
            if self._steps - step > self.MEMORY and len(self._seen[kind]) > 1:
                del self._seen[kind][rows], self._last[kind, rows]

    def _call(self, kind: Hashable, rows: int) -> float:
        seen = self._seen.get(kind)
        if not seen:
            return self.PRIOR_S * rows
        if rows in seen:
            return median(seen[rows])
        below, above = max((n for n in seen if n < rows), default=0), min((n for n in seen if n > rows), default=0)
        if not above:
            return median(seen[below])
        low = median(seen[below]) if below else 0.0
        return low + (median(seen[above]) - low) * (rows - below) / (above - below)


class Scheduler:
    """Chooses, and remembers what everybody has had. Belongs to one model's owner."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.costs = Costs()
        self._tags: dict[str, float] = {}  # device seconds had, on the scale of `_now`
        self._charges: dict[str, float] = {}  # what each session's last frame cost
        self._now = 0.0  # the tag of the last head

    @property
    def lead(self) -> float:
        """How far a tag may run ahead of the head's, in seconds: the dearest frame of any session."""
        return max(self._charges.values(), default=0.0)

    @property
    def load(self) -> tuple[int, float]:
        """Sessions that have been served, and the seconds that one frame of each takes, together."""
        return len(self._charges), sum(self._charges.values())

    def choose(self, waiting: Sequence[Waiting]) -> list[str]:
        """The sessions of the next step, the head first; nobody if nobody waits. They are charged for it at once."""
        if not waiting:
            return []
        order = self._order(waiting)
        self._now = self._tag(order[0].session)
        chosen = self._fill(order)
        charges = {one.session: self.costs.of(one.demand) for one in chosen}
        self._charges |= charges
        lead = self.lead
        for session, charge in charges.items():
            self._tags[session] = min(self._tag(session) + charge, self._now + lead)
        return list(charges)

    def expect(self, waiting: Sequence[Waiting]) -> list[str]:
        """Whom `choose` would choose if these were all who wait; nobody is charged."""
        return [one.session for one in self._fill(self._order(waiting))] if waiting else []

    def observe(self, demand: Demand, seconds: float) -> None:
        """The last step had these rows, and took so long."""
        self.costs.observe(demand, seconds)

    def forget(self, session: str) -> None:
        """The session is over."""
        self._tags.pop(session, None)
        self._charges.pop(session, None)

    def _order(self, waiting: Sequence[Waiting]) -> list[Waiting]:
        return sorted(waiting, key=lambda one: (self._tag(one.session), one.ready_at))

    def _tag(self, session: str) -> float:
        return max(self._tags.get(session, self._now), self._now)

    def _fill(self, order: Sequence[Waiting]) -> Sequence[Waiting]:
        """The head's batch: the smallest of those within bounds that do nearly the most work per second."""
        head, policy = order[0], self.policy
        kin = [one for one in order if {kind for kind, _ in one.demand} <= {kind for kind, _ in head.demand}]
        orders = [order] if len(kin) == len(order) else [order, kin]
        bound = max(policy.stretch * self.costs.of(head.demand), policy.least_s)
        batches = [batch for each in orders for batch in self._prefixes(each, bound)]
        enough = (1.0 - policy.slack) * max(batch.rate for batch in batches)
        return min(
            (batch for batch in batches if batch.rate >= enough), key=lambda batch: (len(batch.members), -batch.rate)
        ).members

    def _prefixes(self, order: Sequence[Waiting], bound: float) -> Iterable[_Batch]:
        rows: Counter[Any] = Counter()
        work = 0.0
        for count, one in enumerate(order[: self.policy.widest], 1):
            rows.update(one.demand)
            work += self.costs.of(one.demand)
            cost = self.costs.of(rows)
            if count == 1 or (cost <= bound and self.costs.allows(rows)):
                yield _Batch(order[:count], work / cost if cost else 1.0)


@dataclass(frozen=True, slots=True)
class _Batch:
    """rate: seconds of work, had everybody been alone, per second."""

    members: Sequence[Waiting]
    rate: float
