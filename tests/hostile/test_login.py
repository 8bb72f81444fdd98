"""Where a login is required, nothing of the studio is to be had without it: no page, no file, no websocket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from pipelines import StreamSpec
from studio.visit.config import ServerConfig
from studio.web.allowed import LISTED, WITHOUT_LOGIN
from studio.web.login import ATTEMPTS_AT_ONCE, Door
from studio.web.server import create_app
from studio.wire.origin import AddressRule
from tests.hostile.test_routes import METHODS, filled, request, walk
from tests.studio.fake import FakePipeline
from tests.studio.harness import TOKEN, Running, connected, serving

BEARER = {"Authorization": f"Bearer {TOKEN}"}
USERS = {"ada": "correct horse"}
FILES = ("/assets/x.js", "/rill/client/studio.js", "/rill/samples/sample.mp4", "/rill/presets/presets.json", "/static/js/x.js")


@pytest.fixture(scope="module")
def gated() -> Iterator[Running]:
    with serving(public=False, with_page=True) as server:
        yield server


@pytest.fixture
def named() -> Iterator[Running]:
    with serving(public=False, users=USERS) as server:
        yield server


def client(server: Running, **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://{server.host}", trust_env=False, timeout=60, headers=headers)


def same_origin(server: Running) -> dict[str, str]:
    return {"Origin": f"http://{server.host}"}


async def test_without_a_login_there_is_nothing(gated: Running) -> None:
    paths = {*map(filled, walk(gated.app.routes)), *LISTED, *FILES}
    for path in sorted(paths):
        for method in METHODS:
            if (method, path) not in WITHOUT_LOGIN:
                status, rest = await request(gated, method, path)
                assert status in (401, 404) or (path == "/" and status == 303), (method, path)
                assert len(rest.partition("\r\n\r\n")[2]) < 200 and TOKEN not in rest


async def test_what_needs_no_login_gives_nothing_away(gated: Running) -> None:
    async with client(gated) as visitor:
        assert (await visitor.get("/rill/view.mjpeg?token=x")).status_code == 404
        page = await visitor.get("/rill/login")
        assert page.status_code == 200 and TOKEN not in page.text and page.headers["cache-control"] == "no-store"
        assert (await visitor.get("/healthz")).status_code in (200, 503)


@pytest.mark.parametrize("form", [{}, {"token": "guess"}, {"name": "ada", "password": "correct horse"}])
async def test_a_wrong_token_opens_nothing(gated: Running, form: dict[str, str]) -> None:
    async with client(gated) as visitor:
        answer = await visitor.post("/rill/login", data=form, headers=same_origin(gated))
        assert answer.status_code in (401, 429) and "set-cookie" not in answer.headers and "Please" in answer.text


async def test_the_right_token_opens_page_files_and_websocket() -> None:
    with serving(public=False, with_page=True) as server:
        async with client(server) as visitor:
            start = await visitor.get("/")
            assert (start.status_code, start.headers["location"]) == (303, "rill/login")
            answer = await visitor.post("/rill/login", data={"token": TOKEN}, headers=same_origin(server))
            assert (answer.status_code, answer.headers["location"]) == (303, "../")
            given = answer.headers["set-cookie"]
            assert {"HttpOnly", "SameSite=lax", "Path=/"} <= {part.strip() for part in given.split(";")} and "Secure" not in given
            assert TOKEN not in given
            for path in ("/", "/rill/client/studio.js", "/theme.css"):
                assert (await visitor.get(path)).status_code == 200, path
            assert (await visitor.get("/metrics")).status_code == 401, "a cookie is not the API token"
            cookie = given.partition(";")[0]
        async with connected(server, headers={"Cookie": cookie}) as peer:
            await peer.send("hello", protocol=1)
            assert (await peer.next_text("welcome", "error"))["type"] == "welcome"


@pytest.mark.parametrize(
    "cookie", ["", "rill=1", f"{Door(TOKEN, False).cookie_name}={Door('another-token-0123', False).cookie(1e10)}"]
)
async def test_the_websocket_is_behind_the_login_too(gated: Running, cookie: str) -> None:
    async with connected(gated, headers={"Cookie": cookie} if cookie else {}) as peer:
        await peer.send("hello", protocol=1)
        assert (await peer.next_text("welcome", "error"))["code"] == "unauthorized"
        assert (await peer.closed())[0] == 4401


async def test_a_cookie_does_not_help_without_an_origin(gated: Running) -> None:
    door = Door(TOKEN, public=False)
    async with connected(gated, origin=None, headers={"Cookie": f"{door.cookie_name}={door.cookie(1e10)}"}) as peer:
        await peer.send("hello", protocol=1)
        assert (await peer.closed())[0] == 4401


async def test_programs_show_the_token(gated: Running) -> None:
    for origin in ("own", None):
        async with connected(gated, origin=origin) as peer:
            await peer.send("hello", protocol=1, token=TOKEN)
            assert (await peer.next_text("welcome", "error"))["type"] == "welcome"
    async with client(gated, **BEARER) as program:
        assert (await program.get("/rill/client/studio.js")).status_code == 200
        assert (await program.post("/rill/view", headers={"X-Rill-Resume": "nobody"})).text == "no such session"


async def test_names_and_passwords(named: Running) -> None:
    async with client(named) as visitor:
        page = (await visitor.get("/rill/login")).text
        assert 'name="password"' in page and 'name="token"' not in page
        own = same_origin(named)
        for wrong in ({"token": TOKEN}, {"name": "ada", "password": "guess"}, {"name": "eve", "password": "correct horse"}):
            assert (await visitor.post("/rill/login", data=wrong, headers=own)).status_code == 401
        assert (await visitor.get("/rill/client/studio.js")).status_code == 401
        right = {"name": "ada", "password": "correct horse"}
        assert (await visitor.post("/rill/login", data=right, headers=own)).status_code == 303
        assert (await visitor.get("/rill/client/studio.js")).status_code == 200


async def test_another_sites_page_cannot_sign_in(named: Running) -> None:
    async with client(named) as visitor:
        for origin in ("https://evil.example", "null"):
            answer = await visitor.post("/rill/login", data=USERS, headers={"Origin": origin})
            assert answer.status_code == 403 and "set-cookie" not in answer.headers


async def test_guessing_is_slow(named: Running) -> None:
    async with client(named) as visitor:
        tries = [
            await visitor.post("/rill/login", data={"name": "ada", "password": str(number)})
            for number in range(ATTEMPTS_AT_ONCE + 1)
        ]
        assert [answer.status_code for answer in tries] == [401] * ATTEMPTS_AT_ONCE + [429]
        assert (await visitor.post("/rill/login", data={"name": "ada", "password": "correct horse"})).status_code == 429


async def test_behind_a_proxy_guessing_is_counted_by_visitor_and_cookies_are_secure() -> None:
    rule = AddressRule(hosts=("*",), trusted_proxy=True)
    with serving(rule=rule, public=False) as server:
        async with client(server, **{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "studio.example"}) as visitor:
            for _ in range(ATTEMPTS_AT_ONCE + 1):
                answer = await visitor.post("/rill/login", data={}, headers={"X-Forwarded-For": "1.1.1.1, 2.2.2.2"})
            assert answer.status_code == 429
            answer = await visitor.post("/rill/login", data={"token": TOKEN}, headers={"X-Forwarded-For": "2.2.2.2, 3.3.3.3"})
            assert answer.status_code == 303 and "Secure" in answer.headers["set-cookie"]


async def test_below_a_path_everything_is_as_at_the_root() -> None:
    """Another application may hold the studio at a path of its own."""
    pipeline = FakePipeline(StreamSpec(width=128, height=128))
    app = create_app(ServerConfig(token=TOKEN, public=False), lambda spec: pipeline, with_page=False)
    transport = httpx.ASGITransport(Starlette(routes=[Mount("/studio", app)]))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7860") as visitor:
            start = await visitor.get("/studio/")
            assert str(start.next_request and start.next_request.url) == "http://127.0.0.1:7860/studio/rill/login"
            answer = await visitor.post("/studio/rill/login", data={"token": TOKEN}, headers={"Origin": "http://127.0.0.1:7860"})
            assert str(answer.next_request and answer.next_request.url) == "http://127.0.0.1:7860/studio/"
            assert "Path=/studio/" in answer.headers["set-cookie"]
            assert (await visitor.get("/studio/rill/client/studio.js")).status_code == 200
            for path in (
                "/studio/gradio_api/info",
                "/studio/rill/client/%2e%2e/login.html",
                "/studio//healthz",
                "/studio/studio/healthz",
            ):
                assert (await visitor.get(path)).status_code == 404, path
    finally:
        await asyncio.to_thread(app.state.hub.close)


async def test_a_public_server_requires_no_login() -> None:
    with serving() as server:
        async with client(server) as visitor:
            answer = await visitor.get("/rill/login")
            assert (answer.status_code, answer.headers["location"]) == (303, "../")
