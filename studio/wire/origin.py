"""Which handshakes this server accepts: the Origin and Host rules. Pure functions of headers.

A browser sends an Origin with every websocket and no page can forge it: equality with the server's own address keeps foreign
pages out. The Host rule keeps a foreign name from becoming "our own" by pointing its DNS record at this machine.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Headers = Iterable[tuple[bytes, bytes]]
"""Header pairs as ASGI gives them: names in lower case."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?)(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Origin:
    """scheme http or https; host in lower case, IPv6 in brackets; port with the default filled in."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


@dataclass(frozen=True, slots=True)
class AddressRule:
    """What decides about a handshake.

    hosts: names this server answers to besides IP addresses and its loopback names; "*" is any.
    allowed: foreign origins that may connect. trusted_proxy: use X-Forwarded-Proto and X-Forwarded-Host.
    """

    hosts: Sequence[str] = ()
    allowed: Sequence[Origin] = ()
    trusted_proxy: bool = False


def parse_origin(text: str) -> Origin:
    """The origin in `text`, "scheme://host[:port]" and nothing more. Raises ValueError."""
    scheme, separator, authority = text.lower().partition("://")
    if not separator or scheme not in _DEFAULT_PORTS:
        raise ValueError(f"{text!r} is not an origin; http://host:port or https://host is one")
    host, port = parse_authority(authority)
    return Origin(scheme, host, _DEFAULT_PORTS[scheme] if port is None else port)


def parse_authority(text: str) -> tuple[str, int | None]:
    """(host, port or None) from "host[:port]". Raises ValueError."""
    match = _AUTHORITY.fullmatch(text.lower())
    if match is None or (match["port"] is not None and not 0 < int(match["port"]) < 65536):
        raise ValueError(f"{text!r} is not a host name with an optional port")
    return match["host"], int(match["port"]) if match["port"] else None


def own_origin(scheme: str, headers: Headers, trusted_proxy: bool) -> Origin:
    """What the request calls this server. scheme: http, https, ws or wss of the connection. Raises ValueError."""
    found = _texts(headers, b"host")
    if len(found) != 1:
        raise ValueError("exactly one Host header is needed")
    authority = found[0]
    if trusted_proxy:
        # A chain of proxies appends; the first value is what the visitor's browser used.
        scheme = next(iter(_texts(headers, b"x-forwarded-proto")), scheme).split(",")[0].strip().lower()
        authority = next(iter(_texts(headers, b"x-forwarded-host")), authority).split(",")[0].strip()
    return parse_origin(f"{ {'ws': 'http', 'wss': 'https'}.get(scheme, scheme) }://{authority}")


def host_allowed(own: Origin, rule: AddressRule) -> bool:
    """Does this server answer to that name? Always for IP addresses and loopback names: no DNS record changes those."""
    if "*" in rule.hosts or own.host in rule.hosts or own.host in ("localhost", "127.0.0.1", "[::1]"):
        return True
    if any(own.host == origin.host for origin in rule.allowed):
        return True
    try:
        ipaddress.ip_address(own.host.strip("[]"))
    except ValueError:
        return False
    return True


def judge(scheme: str, headers: Headers, rule: AddressRule) -> Literal["own", "allowed", "absent", "foreign", "host"]:
    """How a websocket handshake stands to this server.

    own, allowed: may connect; absent: no Origin, must show a token; foreign: refuse; host: refuse, wrong or no Host.
    """
    headers = list(headers)
    try:
        own = own_origin(scheme, headers, rule.trusted_proxy)
    except ValueError:
        return "host"
    if not host_allowed(own, rule):
        return "host"
    origins = _texts(headers, b"origin")
    if not origins:
        return "absent"
    try:
        origin = parse_origin(origins[0])
    except ValueError:
        return "foreign"  # "null" of sandboxed frames and files is here too
    if len(origins) > 1:
        return "foreign"
    if origin == own:
        return "own"
    return "allowed" if origin in rule.allowed else "foreign"


def _texts(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]
