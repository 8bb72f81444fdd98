"""Who may come in, as pure functions; what a server makes of it is in tests/hostile/test_login.py."""

from __future__ import annotations

import argparse
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.web import login
from studio.web.login import ATTEMPTS_AT_ONCE, COOKIE_S, Attempts, Door, fields

TOKEN = "a-token-for-the-tests"
NOW = 1_000_000.0
GATED = Door(TOKEN, public=False)
NAMED = Door(TOKEN, public=False, users={"ada": "correct horse", "bob": "battery staple"})


def with_cookie(*values: str, of: Door = GATED) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), *((b"cookie", f"other=1; {of.cookie_name}={value}".encode("latin-1")) for value in values)]


def with_token(value: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", value.encode())]


def test_a_public_door_admits_anybody_and_no_other_does() -> None:
    assert Door(TOKEN).admits([], NOW)
    assert not GATED.admits([], NOW) and not NAMED.admits([], NOW)


def test_a_cookie_is_good_for_its_time_and_at_its_door() -> None:
    cookie = GATED.cookie(NOW)
    assert GATED.admits(with_cookie(cookie), NOW) and GATED.admits(with_cookie(cookie), NOW + COOKIE_S - 1)
    assert not GATED.admits(with_cookie(cookie), NOW + COOKIE_S)
    assert Door(TOKEN, public=False).admits(with_cookie(cookie), NOW), "another server with the same token"
    for other in (Door("another-token-0123", public=False), NAMED, Door(TOKEN, False, {"ada": "changed password"})):
        assert not other.admits(with_cookie(cookie, of=other), NOW)
        assert other.cookie_name != GATED.cookie_name


def test_only_a_few_cookies_are_looked_at() -> None:
    good = GATED.cookie(NOW)
    assert GATED.admits(with_cookie("x", "y", good), NOW) and GATED.admits(with_cookie(f"x; {GATED.cookie_name}={good}"), NOW)
    assert not GATED.admits(with_cookie(*"x" * 1000, good), NOW)


@given(st.text(st.characters(codec="latin-1", exclude_characters=";\r\n"), max_size=100))
def test_no_other_cookie_is_good(value: str) -> None:
    assert not GATED.admits(with_cookie(value), NOW)


def test_a_cookie_cannot_be_stretched() -> None:
    until, _, signature = GATED.cookie(NOW).partition(".")
    for forged in (f"{int(until) + 1}.{signature}", f"{until}0.{signature}", f"{until}.{signature[:-1]}", f".{signature}", until):
        assert not GATED.admits(with_cookie(forged), NOW)


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN} ", True),
        (f"Bearer {TOKEN}x", False),
        (f"Basic {TOKEN}", False),
        ("Bearer", False),
        (TOKEN, False),
        ("", False),
    ],
)
def test_the_token_in_a_header(value: str, good: bool) -> None:
    assert GATED.admits(with_token(value), NOW) == good == NAMED.admits(with_token(value), NOW)
    assert not GATED.admits(with_token(value) * 2, NOW), "two of them are none"


@pytest.mark.parametrize(
    ("form", "token", "names"),
    [
        ({"token": TOKEN}, True, False),
        ({"token": f" {TOKEN}\n"}, True, False),
        ({"token": ""}, False, False),
        ({}, False, False),
        ({"name": "ada", "password": "correct horse"}, False, True),
        ({"name": "bob", "password": "correct horse"}, False, False),
        ({"name": "ada", "password": "correct horse "}, False, False),
        ({"name": "eve", "password": TOKEN}, False, False),
        ({"name": "", "password": ""}, False, False),
        ({"name": "\ud800", "password": "\udcff"}, False, False),
    ],
)
def test_forms(form: dict[str, str], token: bool, names: bool) -> None:
    assert (GATED.opens(form), NAMED.opens(form)) == (token, names)


def test_forms_as_browsers_send_them() -> None:
    assert fields(urlencode({"name": "ada", "password": "x&y=ü"}).encode()) == {"name": "ada", "password": "x&y=ü"}
    assert fields(b"token=a&token=b") == {"token": "a"} and fields(b"token=") == {"token": ""}
    for body in (b"", b"\xff\xfe", b"&".join(b"a=b" for _ in range(100)), b"{}"):
        assert "token" not in fields(body)


@given(st.binary(max_size=60))
def test_any_body_is_a_form_or_none(body: bytes) -> None:
    assert not GATED.opens(fields(body)) and not NAMED.opens(fields(body))


def test_attempts_are_counted_by_address() -> None:
    attempts = Attempts()
    assert all(attempts.take("10.0.0.1", 0.0) for _ in range(ATTEMPTS_AT_ONCE)) and not attempts.take("10.0.0.1", 0.0)
    assert attempts.take("10.0.0.2", 0.0) and attempts.take("10.0.0.1", 11.0) and not attempts.take("10.0.0.1", 11.0)
    assert all(attempts.take("2001:db8::1", 0.0) for _ in range(ATTEMPTS_AT_ONCE)) and not attempts.take("2001:db8::2", 0.0)


def test_attempts_of_many_addresses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "ADDRESSES", 3)
    attempts = Attempts()
    for number in range(10):
        attempts.take(f"10.0.0.{number}", 0.0)
    assert len(attempts._buckets) == 3


def test_the_page_shows_the_needed_fields() -> None:
    template = (Path(__file__).parents[3] / "assets" / "login.html").read_text(encoding="utf-8")
    by_token, by_name = login.page(template, GATED), login.page(template, NAMED, "Try again.")
    assert 'name="token"' in by_token and 'name="password"' not in by_token
    assert 'name="password"' in by_name and 'name="token"' not in by_name and "Try again." in by_name


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    login.add_arguments(parser)
    return parser.parse_args(arguments)


def test_options(tmp_path: Path) -> None:
    (tmp_path / "ada").write_text("correct horse\n")
    assert login.chosen(options(), reachable=False) == (True, {})
    assert login.chosen(options(), reachable=True) == (False, {})
    assert login.chosen(options("--public"), reachable=True) == (True, {})
    for reachable in (False, True):
        assert login.chosen(options("--login", f"ada:{tmp_path / 'ada'}"), reachable) == (False, {"ada": "correct horse"})


@pytest.mark.parametrize("content", [None, "", "short", "two\nlines of it", b"\xff" * 20, "x" * 1025])
def test_a_password_file_that_is_none(content: str | bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match="--login") as caught:
        login.chosen(options("--login", f"ada:{path}"), True)
    assert "two" not in str(caught.value)


@pytest.mark.parametrize("text", ["ada", "ada:", ":file", "", "a\nb:file"])
def test_a_login_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="NAME:FILE"):
        login.chosen(options("--login", text), True)


def test_what_excludes_each_other() -> None:
    with pytest.raises(ValueError, match="exclude"):
        login.chosen(options("--login", "ada:file", "--public"), True)


def test_what_is_printed() -> None:
    address = "http://localhost:7860"
    assert login.words(True, False, address, "secret") == ["API token for clients that are not browsers: secret"]
    assert login.words(False, False, address, "secret")[1] == "Sign in at http://localhost:7860/rill/login#secret"
    assert login.words(False, False, address, None) == ["Sign in at http://localhost:7860/rill/login with RILL_TOKEN"]
    assert "#" not in login.words(False, True, address, "secret")[1]
