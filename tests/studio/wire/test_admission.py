"""Which connections are kept: caps, budgets and time limits, without sockets."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.wire.admission import LONG_S, SERVED, UNREAD, Admission, Entry, State, address_group
from studio.wire.limits import Limits
from tests.studio.harness import joined, serving

LIMITS = Limits(max_connections=12, max_per_address=8, max_before_hello=5)


@dataclass
class World:
    """An admission with a clock by hand. `open` are the connections that have not been closed, by descriptor."""

    limits: Limits = LIMITS
    per_address: bool = True
    now: float = 0.0
    dropped: list[int] = field(default_factory=list)
    count: Callable[[], int] = field(default_factory=lambda: itertools.count(3).__next__)

    def __post_init__(self) -> None:
        self.admission = Admission(self.limits, self.per_address, clock=lambda: self.now)

    def come(self, address: str = "10.0.0.1", state: State = "opening") -> int | None:
        """A newcomer's descriptor, None if it was refused."""
        descriptor = self.count()
        if self.admission.admit(descriptor, address, lambda: self.dropped.append(descriptor)) is not None:
            return None
        self.admission.enter(self.entry(descriptor), state)
        return descriptor

    def entry(self, descriptor: int) -> Entry:
        found = self.admission.find(descriptor)
        assert found is not None
        return found


def test_a_silent_crowd_is_closed_from_its_oldest_on() -> None:
    world = World()
    silent = [world.come(state="hello") for _ in range(7)]
    assert world.dropped == silent[:2] and world.admission.unproven == LIMITS.max_before_hello


def test_connections_that_were_answered_count_again_while_they_are_idle() -> None:
    world = World()
    answered = [world.come(state="answering") for _ in range(7)]
    for descriptor in answered:
        world.admission.enter(world.entry(descriptor or 0), "idle")
    assert world.dropped == answered[:2] and world.admission.unproven == LIMITS.max_before_hello


def test_the_address_with_the_most_silent_connections_makes_room() -> None:
    world = World()
    quiet = world.come("10.0.0.2")
    crowd = [world.come("10.0.0.1") for _ in range(9)]
    assert quiet not in world.dropped and world.dropped == crowd[:5]


def test_served_connections_stay() -> None:
    world = World()
    served = [world.come(f"10.0.0.{n}", "open") for n in range(12)]
    assert world.come("10.0.0.99") is None and world.dropped == [] and None not in served
    world.admission.release(served[3] or 0)
    assert world.come("10.0.0.99") is not None


def test_one_address_cannot_take_all_places() -> None:
    world = World()
    assert sum(world.come("10.0.0.1", "open") is not None for _ in range(20)) == LIMITS.max_per_address
    assert world.come("10.0.0.2", "open") is not None
    behind = World(per_address=False)
    assert sum(behind.come("10.0.0.1", "open") is not None for _ in range(20)) == LIMITS.max_connections


def test_endless_answers_make_room_once_they_are_old() -> None:
    world = World()
    endless = [world.come(f"10.0.0.{n}", "answering") for n in range(12)]
    assert world.come("10.0.0.99") is None
    world.now = LONG_S + 1
    assert world.come("10.0.0.99") is not None and world.dropped == endless[:1]


@pytest.mark.parametrize("state", get_args(State))
def test_every_state_but_being_served_and_reading_has_a_time_limit(state: State) -> None:
    world = World()
    stays = world.come(state="open")
    descriptor = world.come(state=state)
    world.now = 1.0
    world.admission.sweep()
    assert world.dropped == []
    world.now = 3600.0
    world.admission.sweep()
    assert world.dropped == ([] if state in ("answering", "open") else [descriptor]) and stays not in world.dropped


@pytest.mark.parametrize("state", UNREAD)
def test_a_peer_that_reads_slowly_stays_and_one_that_stops_goes(state: State) -> None:
    world = World()
    descriptor = world.come(state=state) or 0
    entry = world.admission.find(descriptor)
    assert entry is not None
    for second in range(1, 100):
        entry.unsent = lambda left=1000 - second: left  # type: ignore[misc]
        world.now = float(second)
        world.admission.sweep()
    assert world.dropped == []
    world.now = 99.0 + LIMITS.write_s + 1.0
    world.admission.sweep()
    assert world.dropped == [descriptor]


def test_a_trickle_does_not_renew_the_time() -> None:
    world = World()
    descriptor = world.come() or 0
    for _ in range(100):
        world.now += 1.0
        world.admission.enter(world.entry(descriptor), "opening")
    world.admission.sweep()
    assert world.dropped == [descriptor]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["come", "enter", "release", "wait"]),
        st.integers(0, 30),
        st.sampled_from(get_args(State)),
        st.sampled_from(["10.0.0.1", "10.0.0.2", "::1"]),
    ),
    max_size=120,
)


@given(STEPS)
def test_whatever_happens_the_books_are_right(steps: list[tuple[str, int, State, str]]) -> None:
    world = World(replace(LIMITS, max_connections=6, max_per_address=4, max_before_hello=3))
    known: list[int] = []
    past: list[Entry] = []
    for what, which, state, address in steps:
        if what == "come":
            known += [descriptor] if (descriptor := world.come(address, state)) is not None else []
        elif what == "enter" and known and which % 3:
            world.admission.enter(world.entry(known[which % len(known)]), state)
        elif what == "release" and known:
            descriptor = known.pop(which % len(known))
            past.append(world.entry(descriptor))
            world.admission.release(descriptor)
        elif what == "enter" and past:
            world.admission.enter(past[which % len(past)], state)
        elif what == "wait":
            world.now += which
            world.admission.sweep()
        alive = [world.entry(descriptor) for descriptor in known if descriptor not in world.dropped]
        assert len(world.dropped) == len(set(world.dropped))
        assert world.admission.total == len(alive) <= 6
        assert world.admission.unproven == sum(entry.state not in SERVED for entry in alive) <= 3
        assert all(sum(entry.address == address_group(of) for entry in alive) <= 4 for of in ("10.0.0.1", "10.0.0.2", "::1"))
    for descriptor in known:
        world.admission.release(descriptor)
    assert world.admission.total == world.admission.unproven == 0


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(address: str, group: str) -> None:
    assert address_group(address) == group


async def test_a_servers_connections_are_in_its_admissions_books() -> None:
    with serving() as running:
        async with joined(running):
            assert [entry.state for entry in running.admission._entries.values()] == ["open"]
