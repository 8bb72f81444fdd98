"""Seats: the cap, grace, resume tokens, who goes first."""

from __future__ import annotations

import pytest

from pipelines import Settings
from studio.visit.seats import SeatError, Seats
from studio.wire.limits import Limits


def seats_of(**limits: float) -> Seats:
    return Seats(Limits(**({"max_sessions": 2, "grace_s": 10.0} | limits)))  # type: ignore[arg-type]


def test_the_cap_holds_for_connected_sessions() -> None:
    seats = seats_of()
    seats.open(Settings())
    seats.open(Settings())
    with pytest.raises(SeatError, match="all 2 places") as caught:
        seats.open(Settings())
    assert caught.value.code == "full" and seats.connected == 2


def test_the_session_that_left_first_makes_room() -> None:
    seats = seats_of()
    (first, _), (second, _) = seats.open(Settings()), seats.open(Settings())
    seats.leave(second, 1.0)
    seats.leave(first, 2.0)
    _, evicted = seats.open(Settings())
    assert evicted is second and len(seats) == 2
    with pytest.raises(SeatError):
        seats.resume(second.resume, 2.0)
    assert seats.resume(first.resume, 2.0) is first


def test_a_token_serves_once_and_within_the_grace_period() -> None:
    seats = seats_of()
    seat, _ = seats.open(Settings())
    token = seat.resume
    seats.leave(seat, 0.0)
    assert seats.resume(token, 10.0) is seat and seat.left_at is None and seat.resume != token
    for wrong in (token, "", "\ud800", seat.resume[:-1]):
        with pytest.raises(SeatError) as caught:
            seats.resume(wrong, 10.0)
        assert caught.value.code == "resume_expired"
    seats.leave(seat, 10.0)
    with pytest.raises(SeatError):
        seats.resume(seat.resume, 20.5)


def test_resume_takes_over_from_a_connection_that_still_stands() -> None:
    seats = seats_of()
    seat, _ = seats.open(Settings())
    closed: list[bool] = []
    seat.takeover = lambda: closed.append(True)
    assert seats.resume(seat.resume, 0.0) is seat and closed == [True] and seat.takeover is None


def test_sweeping_ends_sessions_after_their_grace_period() -> None:
    seats = seats_of()
    (here, _), (away, _) = seats.open(Settings()), seats.open(Settings())
    seats.leave(away, 0.0)
    assert seats.sweep(9.0) == [] and seats.sweep(10.5) == [away]
    assert len(seats) == 1 and seats.connected == 1 and here.left_at is None


def test_tokens_are_long_and_never_alike() -> None:
    seats = seats_of(max_sessions=20)
    tokens = {seats.open(Settings())[0].resume for _ in range(20)}
    assert len(tokens) == 20 and all(len(token) >= 32 for token in tokens)
