"""Which TCP connections a server keeps: limits in total and per address, and a time limit for every state. Uses no sockets.

A connection is *unproven* until it has made a request or sent hello, and again once it is idle or closing. Unproven connections
have a budget of their own: beyond it, the oldest one of the address with the most of them is closed for the new one. So they
never displace connections that are served, and a client that sends soon is admitted however many are silent.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from studio.wire.limits import Limits

log = logging.getLogger("rill")

State = Literal["opening", "request", "answering", "blocked", "idle", "hello", "open", "unread", "closing"]
"""opening: before the end of the request's headers, TLS included; request: before the end of its body; answering: an HTTP answer
is made or sent; blocked: the peer does not read it; idle: between two requests; hello: a websocket before its first message;
open: a websocket after it; unread: one whose peer does not read what was sent; closing.
"""

SERVED = ("answering", "open", "unread")
UNREAD = ("blocked", "unread")
"""In these `since` is when the peer read something last."""

LONG_S = 10.0
"""An HTTP answer that takes longer is an endless one; it may be closed where only such are left."""


@dataclass(slots=True, eq=False)
class Entry:
    """One connection; `drop` closes it at once. `since` is when it entered its state, in seconds of the admission's clock.

    gone: it has been dropped or closed, and is counted no more.
    unsent: how many bytes wait to be sent; unsent_before: the same at the last sweep.
    """

    address: str
    drop: Callable[[], None]
    since: float
    state: State = "opening"
    gone: bool = False
    unsent: Callable[[], int] = lambda: 0
    unsent_before: int = 0

    def note_reading(self, now: float) -> None:
        """Restart the time of a peer that has read something since the last sweep."""
        before, self.unsent_before = self.unsent_before, self.unsent()
        if self.state in UNREAD and self.unsent_before < before:
            self.since = now


class Admission:
    """The connections of one server, by their descriptors. Used by the event loop only.

    per_address False: behind a proxy all connections come from one address, and the proxy must count them per address.
    """

    def __init__(self, limits: Limits, per_address: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._most = limits.max_connections
        self._most_here = min(limits.max_per_address, self._most) if per_address else self._most
        self._entries: dict[int, Entry] = {}
        self._here: Counter[str] = Counter()
        self._waiting: dict[str, dict[Entry, None]] = {}  # the unproven of each address, the oldest first

    @property
    def total(self) -> int:
        """Connections that are kept."""
        return self._here.total()

    @property
    def unproven(self) -> int:
        """Connections that may be closed for a new one."""
        return sum(map(len, self._waiting.values()))

    def admit(self, descriptor: int, address: str, drop: Callable[[], None]) -> str | None:
        """Take a connection in; if it cannot be, why not. `drop` is called when it has to go for another one, or is too slow."""
        group = address_group(address)
        if self._here[group] >= self._most_here and not self._make_room(group):
            return f"its address has {self._most_here} connections"
        if self.total >= self._most and not self._make_room():
            return f"there are {self._most} connections"
        if self.unproven >= self.limits.max_before_hello:
            self._make_room()
        entry = self._entries[descriptor] = Entry(group, drop, self._clock())
        self._here[group] += 1
        self._waiting.setdefault(group, {})[entry] = None
        return None

    def find(self, descriptor: int) -> Entry | None:
        """The entry of a connection that was admitted."""
        return self._entries.get(descriptor)

    def enter(self, entry: Entry, state: State) -> None:
        """The connection is in this state from now on; if it already is, since before."""
        if entry.gone or state == entry.state:
            return
        entry.state, entry.since = state, self._clock()
        self._forget_waiting(entry)
        if state in SERVED:
            return
        self._waiting.setdefault(entry.address, {})[entry] = None
        if self.unproven > self.limits.max_before_hello:
            self._make_room()

    def release(self, descriptor: int) -> None:
        """The descriptor has been closed."""
        entry = self._entries.pop(descriptor, None)
        if entry is not None:
            self._uncount(entry)

    def sweep(self) -> None:
        """Close the connections that have been in one state for too long; call it about once a second."""
        now, late = self._clock(), Counter[str]()
        for entry in list(self._entries.values()):
            entry.note_reading(now)
            if not entry.gone and now - entry.since > self._limit(entry.state):
                late[entry.state] += 1
                self._drop(entry)
        for state, count in late.items():
            log.info("%d connections closed: longer than %g s in the state %s", count, self._limit(state), state)

    def make_room(self) -> bool:
        """Close one connection that serves no client; False if there is none."""
        return self._make_room()

    def _limit(self, state: str) -> float:
        limits = self.limits
        return {
            "opening": limits.header_s,
            "request": limits.body_s + limits.close_s,  # the studio refuses it before
            "blocked": limits.write_s,
            "unread": limits.write_s,
            "idle": limits.keep_alive_s + limits.close_s,  # uvicorn closes it before
            "hello": limits.hello_s + limits.close_s,  # the studio refuses it before
            "closing": limits.close_s,
        }.get(state, float("inf"))

    def _make_room(self, group: str | None = None) -> bool:
        if group is None and self._waiting:
            group = max(self._waiting, key=lambda address: len(self._waiting[address]))
        waiting = self._waiting.get(group or "")
        victim = next(iter(waiting)) if waiting else self._longest_answer(group)
        if victim is None:
            return False
        log.warning("a connection in the state %s was closed for a new one", victim.state)
        self._drop(victim)
        return True

    def _longest_answer(self, group: str | None) -> Entry | None:
        endless = (
            entry
            for entry in self._entries.values()
            if entry.state == "answering" and not entry.gone and group in (None, entry.address)
        )
        oldest = min(endless, key=lambda entry: entry.since, default=None)
        return oldest if oldest is not None and self._clock() - oldest.since > LONG_S else None

    def _drop(self, entry: Entry) -> None:
        self._uncount(entry)
        entry.drop()

    def _uncount(self, entry: Entry) -> None:
        if entry.gone:
            return
        entry.gone = True
        self._here[entry.address] -= 1
        if not self._here[entry.address]:
            del self._here[entry.address]
        self._forget_waiting(entry)

    def _forget_waiting(self, entry: Entry) -> None:
        waiting = self._waiting.get(entry.address, {})
        waiting.pop(entry, None)
        if not waiting:
            self._waiting.pop(entry.address, None)


def address_group(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 network of an IPv6 address, which belongs to one subscriber."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.ip_network((found, 64), strict=False))
        found = found.ipv4_mapped
    return str(found)
