"""The line of waiting visitors: order, places, fair turns."""

from __future__ import annotations

import random

import pytest

from studio.visit.line import Line, LineFull


def test_first_come_first_served_and_every_place_is_reported() -> None:
    line = Line(3, 60.0, 10.0)
    a, b, c = (line.join(now) for now in (0.0, 1.0, 2.0))
    assert [line.position(ticket) for ticket in (a, b, c)] == [1, 2, 3]
    with pytest.raises(LineFull):
        line.join(3.0)
    line.leave(b)
    line.leave(b)
    assert [line.position(ticket) for ticket in (a, c)] == [1, 2] and len(line) == 2
    with pytest.raises(ValueError, match="not in list"):
        line.position(b)


def test_without_a_line_no_turn_ends() -> None:
    assert Line(3, 60.0, 10.0).ends({"a": 0.0}) == {}


def test_a_turn_lasts_its_time_and_ends_after_a_warning() -> None:
    line = Line(3, 60.0, 10.0)
    line.join(5.0)
    assert line.ends({"new": 4.0, "newer": 5.0}) == {"new": 64.0}
    assert line.ends({"ancient": -1000.0, "new": 4.0}) == {"ancient": 15.0}
    line.join(7.0)
    assert line.ends({"ancient": -1000.0, "new": 4.0}) == {"ancient": 15.0, "new": 64.0}
    line.join(8.0)
    assert len(line.ends({"alone": 0.0})) == 1


def test_in_a_busy_hour_every_visitor_gets_the_same_time() -> None:
    """Two places and five visitors that stay: a visitor whose turn ends joins the end of the line."""
    line, rng = Line(8, 60.0, 10.0), random.Random(0)
    inside: dict[str, float] = {}
    waiting = [(line.join(rng.random()), name) for name in "abcde"]
    spent = dict.fromkeys("abcde", 0.0)
    for second in range(1, 3601):
        for name, end in line.ends(inside).items():
            if second >= end:
                del inside[name]
                waiting.append((line.join(float(second)), name))
        while len(inside) < 2 and waiting:
            ticket, name = waiting.pop(0)
            assert line.position(ticket) == 1
            line.leave(ticket)
            inside[name] = float(second)
        for name in inside:
            spent[name] += 1
    assert max(spent.values()) - min(spent.values()) <= 2 * 62, spent
    assert sum(spent.values()) == 2 * 3600


def test_the_wait_is_the_end_of_the_turns_before_it() -> None:
    line = Line(8, 60.0, 10.0)
    first, second, third = (line.join(now) for now in (100.0, 101.0, 102.0))
    began = {"old": 60.0, "new": 90.0}
    assert [line.wait_s(ticket, began, 105.0) for ticket in (first, second)] == [15.0, 45.0]
    assert line.wait_s(third, began, 105.0) == 75.0, "after the first of the two who come next"
    assert line.wait_s(first, {"old": 60.0}, 500.0) == 0.0, "never less than nothing"
    assert line.wait_s(first, {}, 105.0) == 0.0


def test_everybody_has_a_seat_no_later_than_was_said() -> None:
    """Places and visitors by chance; nobody leaves by themselves."""
    rng = random.Random(1)
    for _ in range(50):
        line, seats = Line(32, 30.0, 5.0), rng.randint(1, 4)
        inside = {f"first {index}": rng.uniform(0.0, 20.0) for index in range(seats)}
        waiting = [(line.join(float(20 + index)), f"later {index}") for index in range(rng.randint(1, 9))]
        now = 20.0 + len(waiting)
        said = {name: now + line.wait_s(ticket, inside, now) for ticket, name in waiting}
        while waiting:
            now += 1.0
            for name, end in line.ends(inside).items():
                if now >= end:
                    del inside[name]
            while len(inside) < seats and waiting:
                ticket, name = waiting.pop(0)
                line.leave(ticket)
                inside[name] = now
                rounds = int(name.split()[1]) // seats + 1
                assert now <= said[name] + rounds + 1e-9, "a second of this clock for each round"
