"""A discrete-event simulation of one device and its sessions, for tests of the scheduler.

Sessions send frames at given times, or some time after an answer (`answers`). A newer frame replaces a waiting one. The device
steps the sessions that the scheduler chooses, with the chosen part of their frames. The scheduler gets the true cost of a step
only after the step.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from studio.model.scheduler import Demand, WaitingSession, leading_rows

FULL = ("full", 0)
SHORT = ("short", 0)

Times = Iterator[float]
Demands = Callable[[int], Demand]
"""The number of served frames of a session to the demand of its next frame."""


def always(rows: int = 1, call: Any = FULL) -> Demands:
    return lambda served: {call: rows}


def cached(interval: int, rows: int = 1, phase: int = 0) -> Demands:
    """Every `interval`-th frame takes the full pass, the others the short one."""
    return lambda served: {FULL if (served + phase) % interval == 0 else SHORT: rows}


def poisson(rate: float, seed: int) -> Times:
    dice, now = random.Random(seed), 0.0
    while True:
        now += dice.expovariate(rate)
        yield now


def bursts(rate: float, on_s: float, off_s: float, seed: int) -> Times:
    """Poisson at `rate` while on, silent while off; both last exponentially long."""
    dice, now = random.Random(seed), 0.0
    while True:
        until = now + dice.expovariate(1 / on_s)
        while (now := now + dice.expovariate(rate)) < until:
            yield now
        now = until + dice.expovariate(1 / off_s)


def camera(rate: float, phase: float = 0.0) -> Times:
    count = 0
    while True:
        yield phase + count / rate
        count += 1


def greedy(step: float = 1e-4) -> Times:
    """A new frame is always available."""
    return camera(1 / step)


@dataclass(frozen=True)
class Curve:
    """The true time of a call: row counts and seconds for each kind, padded up to the next count; above the last in several
    calls."""

    table: Mapping[str, Sequence[tuple[int, float]]]

    def call(self, kind: Any, rows: int) -> float:
        steps = self.table[kind]
        whole, rest = divmod(rows, steps[-1][0])
        return whole * steps[-1][1] + (next(seconds for size, seconds in steps if size >= rest) if rest else 0.0)

    def __call__(self, demand: Demand) -> float:
        return sum(self.call(kind, rows) for (kind, _), rows in demand.items() if rows)


CPU = Curve(
    {
        "full": [(1, 0.0235), (2, 0.0445), (4, 0.0846), (8, 0.162)],
        "short": [(1, 0.010), (2, 0.018), (4, 0.034), (8, 0.066)],
    }
)
"""pocket at 512x512 on two cores (benchmarks/results/scaling.json), the short pass as a share of it."""

GPU = Curve(
    {
        "full": [(1, 0.004), (2, 0.005), (4, 0.008), (8, 0.0145), (16, 0.028)],
        "short": [(1, 0.0015), (2, 0.0016), (4, 0.002), (8, 0.003), (16, 0.0055)],
    }
)
"""An assumed GPU: small batches are nearly free, the cost of large ones is proportional to their rows."""


def answers() -> Times:
    """A frame at the start, and then one for each answer: see Client.think_s."""
    return iter([0.0])


@dataclass
class Client:
    """One session. think_s: the time from an answer to the next frame; None if frames come at fixed times."""

    times: Times
    demands: Demands
    think_s: float | None = None
    served: int = 0
    arrived: float | None = None  # of the frame that waits
    since: float = 0.0  # when the session began to wait
    left: Demand | None = None  # of a frame of which parts are done
    begun: float = 0.0  # when that frame arrived

    def demand_now(self) -> Demand:
        return self.demands(self.served) if self.left is None else self.left


@dataclass
class Report:
    """Results. latencies: from a frame's arrival to the end of its step. waits: from the start of a session's wait to its step.

    steps: (start, seconds, members). overtaken: the most steps during the wait of one session.
    """

    seconds: float = 0.0
    frames: Counter[str] = field(default_factory=Counter)
    device_s: Counter[str] = field(default_factory=Counter)
    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    steps: list[tuple[float, float, tuple[str, ...]]] = field(default_factory=list)
    overtaken: Counter[str] = field(default_factory=Counter)
    busy: float = 0.0

    @property
    def rate(self) -> float:
        return self.frames.total() / self.seconds

    def p95(self, *sessions: str) -> float:
        found = sorted(value for name in (sessions or self.latencies) for value in self.latencies[name])
        return found[int(0.95 * (len(found) - 1))]


def fairness(shares: Sequence[float]) -> float:
    """Jain's index: 1 for equal shares, 1/n if one session has all."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


def simulate(
    scheduler: Any, clients: Mapping[str, Client], truth: Callable[[Demand], float], seconds: float, warm_up: float = 0.0
) -> Report:
    """Run for `seconds`; events before `warm_up` are not reported."""
    report, now = Report(seconds - warm_up), 0.0
    events: list[tuple[float, str]] = []
    for name, client in clients.items():
        events += [(at, name) for at in client.times] if client.think_s is not None else [(next(client.times), name)]
    heapq.heapify(events)
    passed: Counter[str] = Counter()

    def arrivals(until: float) -> None:
        while events and events[0][0] <= until:
            at, name = heapq.heappop(events)
            client = clients[name]
            if client.arrived is None:
                client.since = at
            client.arrived = at
            if client.think_s is None:
                heapq.heappush(events, (next(client.times), name))

    while now < seconds:
        arrivals(now)
        waiting = {name: client for name, client in clients.items() if client.arrived is not None or client.left is not None}
        chosen = scheduler.choose([WaitingSession(n, c.since, c.demand_now()) for n, c in waiting.items()])
        if not chosen:
            assert not waiting, "the device idles although a session waits"
            now = events[0][0]
            continue
        taken = {name: leading_rows(clients[name].demand_now(), count) for name, count in chosen.items()}
        rows: Counter[Any] = Counter()
        for demand in taken.values():
            rows.update(demand)
        took = truth(rows)
        for name in set(waiting) - set(chosen):
            passed[name] += 1
            if now >= warm_up:
                report.overtaken[name] = max(report.overtaken[name], passed[name])
        for name, demand in taken.items():
            client, passed[name] = clients[name], 0
            report.device_s[name] += truth(demand) if now >= warm_up else 0.0
            if client.left is None:
                report.waits[name] += [now - client.since] if now >= warm_up else []
                client.begun, client.arrived = client.arrived or 0.0, None
            client.left = Counter(client.demand_now()) - Counter(demand) or None
            if client.left is None:
                client.served += 1
                if now >= warm_up:
                    report.frames[name] += 1
                    report.latencies[name].append(now + took - client.begun)
                if client.think_s is not None:
                    heapq.heappush(events, (now + took + client.think_s, name))
        if now >= warm_up:
            report.steps.append((now, took, tuple(chosen)))
            report.busy += took
        scheduler.observe(dict(rows), took)
        now += took
    return report


class StepForAll:
    """The policy before the scheduler: all waiting sessions share one step."""

    def __init__(self, widest: int = 16) -> None:
        self.widest = widest

    def choose(self, waiting: Sequence[WaitingSession]) -> dict[str, int]:
        chosen = sorted(waiting, key=lambda one: one.ready_at)[: self.widest]
        return {one.session: sum(one.demand.values()) for one in chosen}

    def observe(self, demand: Demand, seconds: float) -> None:
        pass
