"""The policies of pages and files; that a real browser finds nothing to complain of is tested in tests/browser."""

from __future__ import annotations

import base64
import hashlib

import httpx
import pytest

from studio.web.content_policy import hashes, of_small_page, of_studio, text_of
from studio.wire.origin import Origin
from tests.studio.harness import serving


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def parsed(policy: str) -> dict[str, list[str]]:
    return {name: sources for name, *sources in (part.split() for part in policy.split(";"))}


def test_only_inline_scripts_are_named() -> None:
    html = '<script>a()</script><script src="b.js"></script>\n<SCRIPT type="module">\r\nc()\r\n</SCRIPT><style>d{}</style>'
    html += '<script data-src="x">e()</script><script>a()</script><noscript>f</noscript>'
    assert hashes(html, "script") == [digest("a()"), digest("\nc()\n"), digest("e()")]
    assert hashes(html, "style") == [digest("d{}")] and hashes("", "script") == []


@pytest.mark.parametrize(
    ("own", "authority"),
    [
        (Origin("http", "127.0.0.1", 7860), "127.0.0.1:7860"),
        (Origin("https", "studio.example", 443), "studio.example"),
        (Origin("https", "[::1]", 7860), "[::1]:7860"),
    ],
)
def test_the_socket_is_named(own: Origin, authority: str) -> None:
    assert parsed(text_of(of_studio("", own)))["connect-src"] == ["'self'", f"ws://{authority}", f"wss://{authority}"]
    assert parsed(text_of(of_studio("", None)))["connect-src"] == ["'self'"]


def test_no_policy_of_a_page_runs_what_it_does_not_name() -> None:
    for policy in (of_studio("<p>", None), of_small_page("<p>")):
        for sources in (policy["script-src"], policy.get("default-src", ())):
            assert not {"'unsafe-inline'", "*", "http:", "https:", "data:", "blob:"} & set(sources)
    assert of_small_page("<p>")["script-src"] == ("'none'",)


async def test_every_answer_has_one_policy_that_fits_it() -> None:
    with serving(with_page=True) as server:
        async with httpx.AsyncClient(base_url=f"http://{server.host}", trust_env=False, timeout=60) as client:
            pages = {
                path: await client.get(path) for path in ("/", "/rill/view", "/healthz", "/nothing", "/rill/client/studio.js")
            }
    for path, answer in pages.items():
        assert len(answer.headers.get_list("content-security-policy")) == 1, path
        policy = parsed(answer.headers["content-security-policy"])
        assert policy["frame-ancestors"] == ["'self'"] and "base-uri" in policy
        assert policy.get("object-src", policy["default-src"]) == ["'none'"]
    for path in ("/", "/rill/view"):
        sources = parsed(pages[path].headers["content-security-policy"])["script-src"]
        inline = hashes(pages[path].text, "script")
        assert inline and set(inline) <= set(sources)
    assert f"ws://{server.host}" in parsed(pages["/"].headers["content-security-policy"])["connect-src"]
