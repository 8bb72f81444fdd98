"""Admission to a server: public, with the API token, or with a name and a password.

A browser that has signed in holds a cookie. Its value is the time at which it expires and a signature with a key made of
the token and the passwords: several servers with one token accept it, none keeps a list, another token or password ends them all.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qs

from studio.wire.admission import address_group
from studio.wire.limits import TokenBucket

LOGIN = "/rill/login"
COOKIE_S = 24 * 3600
MAX_COOKIES = 4
MIN_PASSWORD = 8
ATTEMPTS_AT_ONCE, ATTEMPTS_PER_S = 10, 0.1
ADDRESSES = 4096
"""So many addresses have their attempts counted; the least recent one is dropped."""


@dataclass(frozen=True, slots=True)
class Door:
    """token: the API token. public: no browser has to sign in. users: name → password; with none the token is what signs in."""

    token: str
    public: bool = True
    users: Mapping[str, str] = field(default_factory=dict)

    @property
    def cookie_name(self) -> str:
        """Another one for each token: all ports of a host share cookies, and its servers must not take each other's."""
        return f"rill-{self._sign('name')[:8]}"

    def cookie(self, now: float) -> str:
        """The value for a browser that has signed in. now: seconds since 1970."""
        until = str(int(now) + COOKIE_S)
        return f"{until}.{self._sign(until)}"

    def admits(self, headers: Iterable[tuple[bytes, bytes]], now: float) -> bool:
        """May this request pass: is the server public, or has it a good cookie, or the API token?"""
        headers = list(headers)
        return self.public or self.has_token(headers) or any(self._good(value, now) for value in self._cookies(headers))

    def has_token(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Authorization: Bearer, and the API token."""
        given = [value for name, value in headers if name == b"authorization"]
        kind, _, token = (given[0] if len(given) == 1 else b"").partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(token.strip(), self.token.encode())

    def opens(self, form: Mapping[str, str]) -> bool:
        """Whether the fields of this form admit a browser: token, or name and password."""
        if not self.users:
            return _same(form.get("token", "").strip(), self.token)
        known = self.users.get(form.get("name", ""))
        return _same(form.get("password", ""), known or self.token) and known is not None

    def _cookies(self, headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
        """This door's cookies; a browser sends one for each path that has it, and more than a few are ignored."""
        texts = b";".join(value for name, value in headers if name == b"cookie").decode("latin-1")
        pairs = (pair.strip().partition("=") for pair in texts.split(";")) if texts else ()
        ours = self.cookie_name if texts else ""
        return list(islice((value for name, _, value in pairs if name == ours), MAX_COOKIES))

    def _good(self, cookie: str, now: float) -> bool:
        until, _, signature = cookie.partition(".")
        return _same(signature, self._sign(until)) and until.isdecimal() and now < int(until)

    def _sign(self, text: str) -> str:
        secret = repr((self.token, sorted(self.users.items()))).encode("utf-8", "surrogatepass")
        return hmac.new(hashlib.sha256(secret).digest(), text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


class Attempts:
    """How often an address may try to sign in: ten times at once, then once in ten seconds. IPv6 counts by /64."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, address: str, now: float) -> bool:
        """May this address try? now: seconds of any monotonic clock."""
        group = address_group(address)
        bucket = self._buckets.setdefault(group, TokenBucket(ATTEMPTS_PER_S, ATTEMPTS_AT_ONCE))
        self._buckets.move_to_end(group)
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        return bucket.take(1, now)


def fields(body: bytes) -> dict[str, str]:
    """The fields of a form as browsers send it, application/x-www-form-urlencoded; of several with one name the first."""
    try:
        found = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=8)
    except ValueError:
        return {}
    return {name: values[0] for name, values in found.items()}


def page(template: str, door: Door, message: str = "") -> str:
    """The page to sign in. template: assets/login.html; message: why the last attempt failed, in words of ours."""
    shown = "password" if door.users else "token"
    for other in {"password", "token"} - {shown}:
        before, _, rest = template.partition(f"<!-- {other} -->")
        template = before + rest.partition("<!-- / -->")[2]
    return template.replace("<!-- message -->", message)


# The command line.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of admission."""
    parser.add_argument(
        "--public",
        action="store_true",
        help="admit any browser. Without it, browsers need the API token (or --login) where the server is not on 127.0.0.1 alone",
    )
    parser.add_argument(
        "--login",
        action="append",
        default=[],
        metavar="NAME:FILE",
        help="browsers sign in with this name and the password in FILE; may be repeated",
    )


def chosen(args: argparse.Namespace, reachable: bool) -> tuple[bool, dict[str, str]]:
    """(public, users) of the options. reachable: from other machines, directly or through a proxy. Raises ValueError."""
    if args.public and args.login:
        raise ValueError("--public and --login exclude each other")
    return not args.login and (args.public or not reachable), dict(map(_user, args.login))


def words(public: bool, users: bool, address: str, token: str | None) -> list[str]:
    """What the server prints on how to sign in. token: a random one, which is printed; None for the operator's own."""
    lines = [] if token is None else [f"API token for clients that are not browsers: {token}"]
    if not public and not users:
        lines.append(f"Sign in at {address}{LOGIN}" + (" with RILL_TOKEN" if token is None else f"#{token}"))
    if users:
        lines.append(f"Sign in at {address}{LOGIN} with a name of --login")
    return lines


def _user(text: str) -> tuple[str, str]:
    name, colon, file = text.partition(":")
    if not (name and colon and file and name.isprintable() and len(name) <= 64):
        raise ValueError(f"argument --login: {text!r} must be given as NAME:FILE")
    try:
        password = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ValueError(f"argument --login: {file}: {getattr(error, 'strerror', None) or error}") from error
    if not MIN_PASSWORD <= len(password) <= 1024 or not password.isprintable():
        raise ValueError(f"argument --login: {file}: one line of {MIN_PASSWORD} to 1024 printable characters is needed")
    return name, password


def _same(given: str, right: str) -> bool:
    """Equal? Takes the same time for every wrong text, whatever its length."""
    digests = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (given, right))
    return hmac.compare_digest(*digests)
