"""Visitors who wait for a place, and whose turn ends while they do. Pure: `now` in seconds is an argument.

Nobody's time is limited while nobody waits. As soon as n visitors wait, the n who have been inside longest have turns: each ends
`turn_s` after it began, but not before its waiting visitor has waited for `warning_s`, so that every end is announced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class LineFull(Exception):
    """So many wait already that waiting would be no use."""


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """One visitor's place in the line, since `since`."""

    since: float


class Line:
    """At most `longest` visitors in the order in which they came."""

    def __init__(self, longest: int, turn_s: float, warning_s: float) -> None:
        self.longest = longest
        self.turn_s = turn_s
        self.warning_s = warning_s
        self._tickets: list[Ticket] = []

    def __len__(self) -> int:
        return len(self._tickets)

    def join(self, now: float) -> Ticket:
        """The last place. Raises LineFull."""
        if len(self._tickets) >= self.longest:
            raise LineFull
        ticket = Ticket(now)
        self._tickets.append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Who has got in, or has gone, waits no longer; leaving twice is no harm."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)

    def position(self, ticket: Ticket) -> int:
        """1 for whoever is next. Raises ValueError for a ticket that has left."""
        return self._tickets.index(ticket) + 1

    def ends(self, began: Mapping[str, float]) -> dict[str, float]:
        """When the turns end of those who must make room; began: name of everybody inside → when their turn began."""
        oldest = sorted(began, key=began.__getitem__)
        return {
            name: max(began[name] + self.turn_s, ticket.since + self.warning_s)
            for name, ticket in zip(oldest, self._tickets, strict=False)
        }
