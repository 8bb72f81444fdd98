"""Seats for sessions: a cap, a grace period after a disconnect, and resume tokens. Pure, but for the tokens' randomness."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from pipelines import Settings
from studio.stream.session import Session
from studio.wire.limits import Limits


class SeatError(Exception):
    """There is no free seat, or no such session. `code` is full or resume_expired."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Seat:
    """A session's seat since `began`. `takeover` closes its connection, None without one; `left_at`: when that ended."""

    session: Session
    began: float = 0.0
    resume: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    takeover: Callable[[], None] | None = None
    left_at: float | None = None


class Seats:
    """At most `limits.max_sessions` seats, with or without a connection. Event loop only."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._seats: dict[str, Seat] = {}

    @property
    def connected(self) -> int:
        """How many sessions have a connection."""
        return len(self.present())

    def present(self) -> list[Seat]:
        """The seats whose session has a connection."""
        return [seat for seat in self._seats.values() if seat.left_at is None]

    def turns(self) -> dict[str, float]:
        """Session name → when its turn began, for those with a connection."""
        return {name: seat.began for name, seat in self._seats.items() if seat.left_at is None}

    def __len__(self) -> int:
        return len(self._seats)

    def open(self, settings: Settings) -> tuple[Seat, Seat | None]:
        """A new seat, and the one that was removed for it: the one without a connection for longest. Raises SeatError full."""
        evicted = None
        if len(self._seats) >= self.limits.max_sessions:
            away = [seat for seat in self._seats.values() if seat.left_at is not None]
            if not away:
                raise SeatError("full", f"all {self.limits.max_sessions} places are taken; try again later")
            evicted = min(away, key=lambda seat: seat.left_at or 0.0)
            self.end(evicted)
        seat = Seat(Session(secrets.token_hex(4), self.limits, settings))
        self._seats[seat.session.name] = seat
        return seat, evicted

    def resume(self, token: str, now: float) -> Seat:
        """The seat of that token, with a new token; its connection is closed if it has one. Raises SeatError."""
        found = self.holder(token)
        if found is None or (found.left_at is not None and now - found.left_at > self.limits.grace_s):
            raise SeatError("resume_expired", "this session is no longer kept; connect again without resume")
        if found.takeover is not None:
            found.takeover()
        found.session.detach()
        found.resume, found.takeover, found.left_at = secrets.token_urlsafe(24), None, None
        return found

    def holder(self, token: str) -> Seat | None:
        """The seat with that resume token."""
        found = None
        for seat in self._seats.values():  # all are compared, so that the time taken is the same for every token
            if hmac.compare_digest(seat.resume.encode(), token.encode("utf-8", "surrogatepass")):
                found = seat
        return found

    def leave(self, seat: Seat, now: float) -> None:
        """The connection has ended without a bye: keep the seat for the grace period."""
        seat.session.detach()
        seat.takeover, seat.left_at = None, now

    def end(self, seat: Seat) -> None:
        """The session has ended."""
        self._seats.pop(seat.session.name, None)

    def sweep(self, now: float) -> list[Seat]:
        """End and return the seats whose grace period has passed."""
        gone = [seat for seat in self._seats.values() if seat.left_at is not None and now - seat.left_at > self.limits.grace_s]
        for seat in gone:
            self.end(seat)
        return gone
