"""The Origin and Host rules as pure functions; their effect on a real handshake is in test_refusals.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.wire.origin import AddressRule, Origin, judge, own_origin, parse_authority, parse_origin


def headers(host: str | None = "localhost:7860", origin: str | None = None, **more: str) -> list[tuple[bytes, bytes]]:
    pairs = {"host": host, "origin": origin} | {name.replace("_", "-"): value for name, value in more.items()}
    return [(name.encode(), value.encode("latin-1")) for name, value in pairs.items() if value is not None]


PLAIN = AddressRule()


@pytest.mark.parametrize(
    ("scheme", "host", "origin", "verdict"),
    [
        ("ws", "localhost:7860", "http://localhost:7860", "own"),
        ("ws", "LOCALHOST:7860", "http://localhost:7860", "own"),
        ("wss", "192.168.1.5:7860", "https://192.168.1.5:7860", "own"),
        ("ws", "127.0.0.1", "http://127.0.0.1:80", "own"),
        ("wss", "[::1]:7860", "https://[::1]:7860", "own"),
        ("ws", "localhost:7860", None, "absent"),
        ("ws", "localhost:7860", "null", "foreign"),
        ("ws", "localhost:7860", "http://localhost", "foreign"),
        ("ws", "localhost:7860", "https://localhost:7860", "foreign"),
        ("ws", "localhost:7860", "http://localhost:7861", "foreign"),
        ("ws", "localhost:7860", "http://127.0.0.1:7860", "foreign"),
        ("ws", "localhost:7860", "http://localhost:7860.evil.example", "foreign"),
        ("ws", "localhost:7860", "http://localhost.:7860", "foreign"),
        ("ws", "localhost:7860", "http://user@localhost:7860", "foreign"),
        ("ws", "localhost:7860", "http://localhost:7860 ", "foreign"),
        ("ws", "localhost:7860", "http://loc\xe4lhost:7860", "foreign"),
        ("ws", "evil.example", "http://evil.example", "host"),
        ("ws", "1.2.3.4.evil.example", "http://1.2.3.4.evil.example", "host"),
        ("ws", "", "http://localhost", "host"),
        ("ws", None, "http://localhost", "host"),
        ("ws", "localhost:99999", "http://localhost:99999", "host"),
    ],
)
def test_the_rule(scheme: str, host: str | None, origin: str | None, verdict: str) -> None:
    assert judge(scheme, headers(host, origin), PLAIN) == verdict


def test_two_of_anything_are_refused() -> None:
    twice = [*headers(origin="http://localhost:7860"), (b"origin", b"http://localhost:7860")]
    assert judge("ws", twice, PLAIN) == "foreign"
    assert judge("ws", [*headers(origin="http://localhost:7860"), (b"host", b"evil.example")], PLAIN) == "host"


def test_listed_origins_and_names() -> None:
    rule = AddressRule(hosts=("studio.lan",), allowed=(Origin("https", "friend.example", 443),))
    assert judge("ws", headers("localhost:7860", "https://friend.example"), rule) == "allowed"
    assert judge("ws", headers("localhost:7860", "http://friend.example"), rule) == "foreign"
    assert judge("ws", headers("studio.lan:7860", "http://studio.lan:7860"), rule) == "own"
    assert judge("ws", headers("friend.example", "http://friend.example"), rule) == "own"


def test_forwarded_headers_count_only_behind_a_trusted_proxy() -> None:
    forwarded = {"x_forwarded_host": "studio.example", "x_forwarded_proto": "https, http"}
    request = headers("10.0.0.7:7860", "https://studio.example", **forwarded)
    assert judge("ws", request, PLAIN) == "foreign"
    assert judge("ws", request, AddressRule(hosts=("*",), trusted_proxy=True)) == "own"
    only_scheme = headers("studio.example", "https://studio.example", x_forwarded_proto="https")
    assert judge("ws", only_scheme, AddressRule(hosts=("*",), trusted_proxy=True)) == "own"
    strange = headers("studio.example", "gopher://studio.example", x_forwarded_proto="gopher")
    assert judge("ws", strange, AddressRule(hosts=("*",), trusted_proxy=True)) == "host"


def test_parsing() -> None:
    assert parse_origin("HTTPS://Studio.Example") == Origin("https", "studio.example", 443)
    assert str(parse_origin("http://a.b:80")) == "http://a.b" and str(parse_origin("https://[::1]:80")) == "https://[::1]:80"
    assert parse_authority("a-b.c_d:1") == ("a-b.c_d", 1)
    for wrong in (
        "ftp://a",
        "http:/a",
        "//a",
        "a",
        "http://a/",
        "http://a?b",
        "http://a#b",
        "http://-a",
        "http://a:0",
        "http://*",
    ):
        with pytest.raises(ValueError, match="is not"):
            parse_origin(wrong)


@given(st.text(max_size=40), st.text(max_size=40), st.booleans())
def test_nothing_but_the_own_origin_is_own(host: str, origin: str, proxy: bool) -> None:
    pairs = [(b"host", host.encode("latin-1", "replace")), (b"origin", origin.encode("latin-1", "replace"))]
    rule = AddressRule(hosts=("*",), trusted_proxy=proxy)
    if judge("ws", pairs, rule) == "own":
        assert parse_origin(origin.encode("latin-1", "replace").decode("latin-1")) == own_origin("ws", pairs, proxy)
