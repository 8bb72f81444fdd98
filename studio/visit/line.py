"""Clients that wait for a seat, and when the turns of those with one end. Pure: `now` in seconds is an argument.

While no client waits, turns have no end. While n wait, the n oldest turns end: each
`turn_s` after it began, but not before its waiting visitor has waited for `warning_s`, so that every end is announced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class LineFull(Exception):
    """The line has reached its length limit."""


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """One waiting client; since: when it joined, in seconds."""

    since: float


class Line:
    """At most `longest` clients in the order in which they came."""

    def __init__(self, longest: int, turn_s: float, warning_s: float) -> None:
        self.longest = longest
        self.turn_s = turn_s
        self.warning_s = warning_s
        self._tickets: list[Ticket] = []

    def __len__(self) -> int:
        return len(self._tickets)

    def join(self, now: float) -> Ticket:
        """Join at the end. Raises LineFull."""
        if len(self._tickets) >= self.longest:
            raise LineFull
        ticket = Ticket(now)
        self._tickets.append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """The client has a seat, or is gone. Leaving twice has no effect."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)

    def position(self, ticket: Ticket) -> int:
        """1 for the next. Raises ValueError for a ticket that has left."""
        return self._tickets.index(ticket) + 1

    def wait_s(self, ticket: Ticket, began: Mapping[str, float], now: float) -> float:
        """Seconds until this client has a seat if everybody stays as long as they may; 0 where no turn is under way.

        began: as for `ends`. Raises ValueError for a ticket that has left.
        """
        rounds, seat = divmod(self.position(ticket) - 1, max(1, len(began)))
        ends = sorted(self.ends(began).values())
        return max(0.0, ends[seat] + rounds * self.turn_s - now) if ends else 0.0

    def ends(self, began: Mapping[str, float]) -> dict[str, float]:
        """When turns end, by session name. began: session name → when its turn began, in seconds."""
        oldest = sorted(began, key=began.__getitem__)
        return {
            name: max(began[name] + self.turn_s, ticket.since + self.warning_s)
            for name, ticket in zip(oldest, self._tickets, strict=False)
        }
