"""The scheduler: its bounds as properties, and simulated traffic, beside a device that takes everybody at once."""

from __future__ import annotations

import math
from collections import Counter
from itertools import count

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from studio.model.scheduler import Costs, Demand, Policy, Scheduler, WaitingSession
from tests.studio.costs import PerRow
from tests.studio.traffic import (
    CPU,
    FULL,
    GPU,
    SHORT,
    Client,
    Curve,
    Demands,
    Report,
    StepForAll,
    always,
    answers,
    bursts,
    cached,
    camera,
    fairness,
    greedy,
    poisson,
    simulate,
)


def knowing(policy: Policy | None = None) -> Scheduler:
    scheduler = Scheduler(policy)
    scheduler.costs = PerRow()
    return scheduler


names = st.sampled_from([f"s{index}" for index in range(6)])
arrivals = st.lists(st.sets(names), min_size=1, max_size=60)
rows = st.fixed_dictionaries({f"s{index}": st.integers(1, 5) for index in range(6)})
WHOLE = math.inf
policies = st.builds(
    Policy,
    stretch=st.sampled_from([1.0, 2.0, 3.0, 8.0]),
    slack=st.sampled_from([0.0, 0.05, 0.5]),
    part=st.sampled_from([1.0, 1.25, 2.0, WHOLE]),
)


@given(arrivals, rows, policies)
def test_nobody_starves_whatever_the_others_do(arrivals: list[set[str]], rows: dict[str, int], policy: Policy) -> None:
    scheduler, waiting, passed = knowing(policy), dict[str, float](), Counter[str]()
    left = Counter[str]()
    headed: dict[str, float] = {}
    dearest = max(rows.values())
    cheapest = dict.fromkeys(rows, 1) if policy.part < WHOLE else rows  # the last part of a frame may be one row
    for now, new in enumerate([*arrivals, *[set[str]()] * 150]):
        for name in sorted(new):
            waiting.setdefault(name, float(now))
            left[name] = left[name] or rows[name]  # a fresher frame replaces the one that waits
        chosen = scheduler.choose([WaitingSession(name, at, {FULL: left[name]}) for name, at in waiting.items()])
        # Work conservation: somebody enters whenever somebody waits, nobody else, and with something to do.
        assert bool(chosen) == bool(waiting) and set(chosen) <= set(waiting)
        assert all(1 <= count <= left[name] for name, count in chosen.items())
        for name in [name for name in waiting if name not in chosen]:
            head = next(iter(chosen))
            passed[name] += 1
            headed[name] = headed.get(name, 0.0) + chosen[head]
            assert passed[name] <= sum(dearest // cheapest[other] + 1 for other in rows if other != name)
            assert headed[name] <= sum(dearest + rows[other] for other in rows if other != name)
        for name, done in chosen.items():
            left[name] -= done
            passed[name], headed[name] = 0, 0.0
            if not left[name]:
                del waiting[name]
    assert not waiting


@given(rows, st.integers(10, 200))
def test_backlogged_sessions_have_had_the_same_device_time(rows: dict[str, int], steps: int) -> None:
    """One at a time, as start-time fair queueing is proved for: two sessions differ by one frame of each at most."""
    scheduler, had = knowing(Policy(widest=1, part=WHOLE)), Counter[str]()
    for _ in range(steps):
        (name,) = scheduler.choose([WaitingSession(name, 0.0, {FULL: cost}) for name, cost in rows.items()])
        had[name] += rows[name]
        for one in rows:
            for other in rows:
                assert had[one] - had[other] <= rows[one] + rows[other]


@given(arrivals, rows)
def test_a_frame_for_a_step_is_bounded(arrivals: list[set[str]], rows: dict[str, int]) -> None:
    """A step costs at most `stretch` times what its head would alone."""
    policy = Policy(part=WHOLE)
    scheduler = knowing(policy)
    for now, new in enumerate(arrivals):
        chosen = scheduler.choose([WaitingSession(name, float(now), {FULL: rows[name]}) for name in sorted(new)])
        if chosen:
            assert sum(rows[name] for name in chosen) <= policy.stretch * rows[next(iter(chosen))]


def test_idling_earns_nothing_and_costs_nothing() -> None:
    scheduler = knowing(Policy(widest=1))
    everybody = [WaitingSession(name, 0.0, {FULL: 1}) for name in "ab"]
    for _ in range(50):
        scheduler.choose(everybody[:1])
    turns = Counter(name for _ in range(20) for name in scheduler.choose(everybody))
    assert turns["a"] == turns["b"] == 10


def test_what_nobody_else_wanted_is_not_held_against_a_session() -> None:
    """A heavy and a light session share every step while there is room for both; then a third one comes."""

    class Roomy(PerRow):
        def of(self, demand: Demand) -> float:
            return 4.5 if sum(demand.values()) == 5 else super().of(demand)

    scheduler = Scheduler(Policy(stretch=9.0, slack=0.0, part=WHOLE))
    scheduler.costs = Roomy()
    heavy, light, third = (
        WaitingSession("heavy", 0.0, {FULL: 4}),
        WaitingSession("light", 0.0, {FULL: 1}),
        WaitingSession("third", 0.0, {FULL: 1}),
    )
    for _ in range(100):
        assert set(scheduler.choose([heavy, light])) == {"heavy", "light"}
    scheduler.policy = Policy(widest=1, part=WHOLE)
    turns = [next(iter(scheduler.choose([heavy, light, third]))) for _ in range(27)]
    assert "heavy" in turns[:10] and turns.count("heavy") == 3


def test_a_forgotten_session_leaves_nothing() -> None:
    scheduler = knowing()
    scheduler.choose([WaitingSession("a", 0.0, {FULL: 3})])
    assert scheduler.lead == 3.0 and scheduler.load == (1, 3.0)
    scheduler.forget("a")
    scheduler.forget("a")
    assert scheduler.lead == 0.0 and scheduler.load == (0, 0.0)


def test_the_oldest_frame_goes_first_among_equals() -> None:
    scheduler = knowing(Policy(widest=1))
    assert scheduler.choose([WaitingSession("a", 2.0, {FULL: 1}), WaitingSession("b", 1.0, {FULL: 1})]) == {"b": 1}


# Costs.


def test_costs_are_medians_of_what_steps_took() -> None:
    costs = Costs()
    assert costs.of({FULL: 2}) == 2 * Costs.PRIOR_S
    for seconds in (0.010, 0.012, 5.0):  # a hiccup is no cost
        costs.observe({FULL: 1}, seconds)
    assert costs.of({FULL: 1}) == 0.012
    costs.observe({FULL: 3}, 0.020)
    assert costs.of({FULL: 2}) == pytest.approx(0.016) and costs.of({FULL: 4}) == pytest.approx(0.020)
    assert costs.of({FULL: 1, ("full", 1): 1}) == pytest.approx(0.024)  # two calls, one after the other


def test_larger_batches_are_tried_by_doubling() -> None:
    costs = Costs()
    assert not costs.allows({FULL: 1})
    for size in (1, 2, 4):
        costs.observe({FULL: size}, 0.01)
        assert costs.allows({FULL: 2 * size}) and not costs.allows({FULL: 2 * size + 1})


def test_a_mixed_step_is_split_as_expected() -> None:
    costs = Costs()
    costs.observe({FULL: 1}, 0.030)
    costs.observe({SHORT: 1}, 0.010)
    for _ in range(Costs.SAMPLES):
        costs.observe({FULL: 1, SHORT: 1}, 0.080)
    assert costs.of({FULL: 1}) == pytest.approx(0.060) and costs.of({SHORT: 1}) == pytest.approx(0.020)


def test_what_was_seen_long_ago_is_tried_again() -> None:
    costs = Costs()
    costs.observe({FULL: 2}, 9.0)  # while a neighbour was busy
    for _ in range(Costs.MEMORY + 1):
        costs.observe({FULL: 1}, 0.01)
    assert costs.of({FULL: 2}) == pytest.approx(0.01)


# Traffic.

THREE_TIMES_ALONE = 3.0


def both(clients: list[Client] | None = None, *, make: object, truth: Curve, seconds: float = 12.0) -> tuple[Report, Report]:
    """The same traffic through the scheduler, and through a device that takes all who wait."""
    assert callable(make)
    named = [{f"s{index}": client for index, client in enumerate(make())} for _ in range(2)]
    return simulate(Scheduler(), named[0], truth, seconds, 2.0), simulate(StepForAll(), named[1], truth, seconds, 2.0)


@pytest.mark.parametrize("truth", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("sessions", [1, 4, 16, 32])
def test_equal_cameras_get_equal_shares(sessions: int, truth: Curve) -> None:
    report, _ = both(make=lambda: [Client(camera(30, index / 30 / sessions), always()) for index in range(sessions)], truth=truth)
    counts = [report.frames[f"s{index}"] for index in range(sessions)]
    assert fairness(counts) > 0.995 and min(counts) >= 0.9 * sum(counts) / sessions
    assert report.busy <= report.seconds * 1.05


@pytest.mark.parametrize("sessions", [4, 16, 32])
def test_on_a_cpu_latency_does_not_grow_with_sessions_and_little_rate_is_lost(sessions: int) -> None:
    """What a step costs bounds its frames' wait, and the age at which they are taken: the camera's interval."""
    ours, everybody = both(
        make=lambda: [Client(camera(30, index / 30 / sessions), always()) for index in range(sessions)], truth=CPU
    )
    alone = CPU({FULL: 1})
    assert ours.p95() <= THREE_TIMES_ALONE * alone + 1 / 30 < everybody.p95() + 0.01
    assert ours.rate >= 0.9 * everybody.rate and ours.rate >= 1 / alone


def test_on_a_gpu_sixteen_sessions_double_the_rate_within_three_times_the_latency() -> None:
    ours, everybody = both(make=lambda: [Client(greedy(), always()) for _ in range(16)], truth=GPU)
    alone = simulate(Scheduler(), {"s": Client(greedy(), always())}, GPU, 4.0, 1.0)
    assert ours.rate >= 1.95 * alone.rate and ours.p95() <= THREE_TIMES_ALONE * alone.p95()
    assert everybody.p95() > THREE_TIMES_ALONE * alone.p95()


@pytest.mark.parametrize("truth,capacity,times", [(CPU, 45.0, 7.5), (GPU, 500.0, 5.0)], ids=["cpu", "gpu"])
@pytest.mark.parametrize("seed", range(3))
def test_p95_at_four_fifths_of_the_capacity(truth: Curve, capacity: float, times: float, seed: int) -> None:
    """Poisson arrivals of 16 sessions: p95 below that of steps with everybody, and within so many steps alone.

    A queue with one server and a fixed service time has its 95th percentile near 7.5 service times at that load.
    """
    rate = 0.8 * capacity / 16
    ours, everybody = both(make=lambda: [Client(poisson(rate, 100 * seed + i), always()) for i in range(16)], truth=truth)
    assert ours.p95() <= times * truth({FULL: 1}) and ours.p95() < everybody.p95()
    assert ours.rate >= 0.97 * everybody.rate


@pytest.mark.parametrize("seed", range(3))
def test_bursts_do_not_starve_the_steady(seed: int) -> None:
    def make() -> list[Client]:
        steady = [Client(camera(15, index / 60), always()) for index in range(4)]
        return [*steady, *(Client(bursts(120, 0.5, 0.5, 100 * seed + index), always()) for index in range(12))]

    ours, everybody = both(make=make, truth=GPU)
    quiet = [f"s{index}" for index in range(4)]
    assert min(ours.frames[name] for name in quiet) >= 0.97 * 15 * ours.seconds
    assert ours.p95(*quiet) < everybody.p95(*quiet) and ours.p95() < everybody.p95()
    assert max(max(waits) for waits in ours.waits.values()) <= 16 * 2 * THREE_TIMES_ALONE * GPU({FULL: 1})


@pytest.mark.parametrize("truth", [CPU, GPU], ids=["cpu", "gpu"])
def test_who_asks_for_more_rows_gets_fewer_frames_not_more_device(truth: Curve) -> None:
    def make() -> list[Client]:
        return [Client(greedy(1e-3), always(4 if index == 0 else 1)) for index in range(8)]

    ours, everybody = both(make=make, truth=truth)
    assert fairness([ours.device_s[f"s{index}"] for index in range(8)]) > 0.98
    assert fairness([everybody.device_s[f"s{index}"] for index in range(8)]) < 0.95
    light = [f"s{index}" for index in range(1, 8)]
    assert sum(ours.frames[name] for name in light) > sum(everybody.frames[name] for name in light)


HEAVY = {
    "batch": lambda served: {FULL: 8},  # four steps with full guidance, as a stream batch
    "sequential": lambda served: {("full", calls): 2 for calls in range(4)},
}


def loop(demands: Demands) -> Client:
    """One frame under way, as the page has: nothing of it waits while its answer travels."""
    return Client(answers(), demands, think_s=0.003)


@pytest.mark.parametrize("truth", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("kind", HEAVY)
@pytest.mark.parametrize(("light", "heavy"), [(1, 1), (1, 3), (3, 1)])
def test_a_light_visitor_beside_heavy_ones_keeps_its_share_and_they_keep_theirs(
    truth: Curve, kind: str, light: int, heavy: int
) -> None:
    def run(policy: Policy, light: int, heavy: int) -> Counter[str]:
        clients = {f"light{index}": loop(always()) for index in range(light)}
        clients |= {f"heavy{index}": loop(HEAVY[kind]) for index in range(heavy)}
        return simulate(Scheduler(policy), clients, truth, 14.0, 4.0).frames

    alone = run(Policy(), 1, 0)["light0"], run(Policy(), 0, 1)["heavy0"]

    def shares(policy: Policy) -> dict[str, float]:
        return {name: count / alone[name.startswith("heavy")] for name, count in run(policy, light, heavy).items()}

    ours, wholes, visitors = shares(Policy()), shares(Policy(part=WHOLE)), light + heavy
    assert min(share for name, share in ours.items() if name.startswith("light")) >= 0.9 / visitors
    # What is done in parts is done in smaller batches, which is all that the heavy ones lose.
    assert min(share for name, share in ours.items() if name.startswith("heavy")) >= (0.8 if truth is CPU else 0.6) / visitors
    assert sum(ours.values()) >= 0.88 * sum(wholes.values())
    if light == 1:
        assert ours["light0"] > 1.4 * wholes["light0"], "what it was about"


@pytest.mark.parametrize("rows", [1, 4])
def test_who_is_alone_or_among_equals_is_never_divided(rows: int) -> None:
    for visitors in (1, 2, 5):
        report = simulate(Scheduler(), {f"s{index}": loop(always(rows)) for index in range(visitors)}, CPU, 12.0, 4.0)
        assert all(took >= 0.99 * CPU({FULL: rows}) for _, took, _ in report.steps)


def test_a_neighbour_who_has_not_come_for_a_while_divides_nobody() -> None:
    scheduler = knowing()
    light, heavy = WaitingSession("light", 0.0, {FULL: 1}), WaitingSession("heavy", 0.0, {FULL: 8})
    scheduler.choose([light])
    scheduler.observe({FULL: 1}, 0.1)
    assert scheduler.choose([heavy]) == {"heavy": 1}
    scheduler.observe({FULL: 1}, Policy().present_s)
    scheduler.forget("heavy")
    assert scheduler.choose([heavy]) == {"heavy": 8}


def test_a_part_rides_only_with_who_has_had_as_much() -> None:
    """On a device where rows are free a heavy neighbour would be in each of the light one's steps, and have its own besides."""

    class Flat(PerRow):
        def of(self, demand: Demand) -> float:
            return 1.0 + 0.5 * sum(demand.values())

    scheduler = Scheduler()
    scheduler.costs = Flat()
    light, heavy = WaitingSession("light", 0.0, {FULL: 1}), WaitingSession("heavy", 1.0, {FULL: 80})
    steps = [scheduler.choose([light, heavy]) for _ in range(40)]
    had = Counter(name for step in steps for name in step)
    assert had["light"] == had["heavy"] == 40, "both wait: they share each step"
    assert next(iter(scheduler.choose([heavy]))) == "heavy"
    assert set(scheduler.choose([light, heavy])) == {"light"}, "the heavy one is ahead"


@pytest.mark.parametrize("truth", [CPU, GPU], ids=["cpu", "gpu"])
def test_full_and_short_rows_are_grouped(truth: Curve) -> None:
    """Sixteen sessions with a cache at interval 3, out of phase: steps of one kind, and more frames for it."""
    ours, everybody = both(make=lambda: [Client(greedy(1e-3), cached(3, phase=index)) for index in range(16)], truth=truth)
    assert ours.rate > 1.15 * everybody.rate and ours.p95() < everybody.p95()
    assert fairness(list(ours.frames.values())) > 0.99


def test_a_session_that_leaves_and_comes_back_is_new() -> None:
    scheduler, ids = Scheduler(), count()
    for _ in range(30):
        chosen = scheduler.choose([WaitingSession(f"visitor{next(ids)}", 0.0, {FULL: 1})])
        scheduler.observe({FULL: 1}, 0.01)
        scheduler.forget(*chosen)
    assert not scheduler._tags and not scheduler._charges


@given(st.lists(st.tuples(st.integers(1, 4), st.floats(0.0, 0.1)), min_size=1, max_size=80))
@hypothesis_settings(max_examples=30)
def test_whatever_steps_take_costs_stay_finite_and_positive(steps: list[tuple[int, float]]) -> None:
    scheduler = Scheduler()
    for size, seconds in steps:
        waiting = [WaitingSession(f"s{index}", 0.0, {FULL if index % 2 else SHORT: 1}) for index in range(size)]
        chosen = scheduler.choose(waiting)
        rows = Counter[tuple[str, int]]()
        for one in waiting:
            if one.session in chosen:
                rows.update(one.demand)
        scheduler.observe(rows, seconds)
        assert 0.0 < scheduler.costs.of({FULL: 1}) <= 0.1 and scheduler.lead <= 0.1 + Costs.PRIOR_S
