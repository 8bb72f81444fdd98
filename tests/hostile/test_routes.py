"""What the server answers to: the listed addresses, in the way they are listed, and nothing else of what Gradio mounts."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Mount
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from studio.web.allowed import FOLDERS, LISTED, LOOK, PAGE, allowed, plain_path
from studio.web.guard import UNKNOWN
from studio.wire.limits import Limits
from studio.wire.protocol import PATH, SUBPROTOCOL
from tests.studio.harness import TOKEN, Running, serving

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SERVED = {
    *(("GET", path) for path in ("/", "/favicon.ico", "/manifest.json", "/pwa_icon", "/theme.css")),
    *(("GET", path) for path in ("/healthz", "/metrics", "/rill/join.svg", "/rill/login", "/rill/view")),
    ("GET", "/rill/view.mjpeg"),
    ("POST", "/rill/login"),
    ("HEAD", "/"),
    ("POST", "/rill/view"),
}
"""The routes without a parameter that may answer; written out here too, so that a wider list needs a second thought."""


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(Limits(max_body_bytes=1000, body_s=0.5), with_page=True) as server:
        yield server


@pytest.fixture
async def client(running: Running) -> Any:
    async with httpx.AsyncClient(base_url=f"http://{running.host}", trust_env=False, timeout=60, headers=BEARER) as made:
        yield made


def walk(routes: Iterable[Any], prefix: str = "") -> Iterator[str]:
    """The paths of all routes, those of mounted applications and included routers too; parameters as they are declared."""
    for route in routes:
        router = getattr(route, "original_router", None)
        if router is not None:
            yield from walk(router.routes, prefix)
        elif isinstance(route, Mount):
            yield prefix + route.path + "/{path}"
            yield from walk(route.routes, prefix + route.path)
        else:
            yield prefix + route.path


def filled(path: str) -> str:
    """A declared path with something in the place of its parameters."""
    return re.sub(r"\{[^}]*\}", "x", path)


async def request(running: Running, method: str, target: str, *headers: str) -> tuple[int, str]:
    """Status and all the rest of the answer to a request whose target is sent as it stands, dots, escapes and all."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    host = () if any(line.startswith("Host:") for line in headers) else (f"Host: {running.host}",)
    writer.write("\r\n".join([f"{method} {target} HTTP/1.1", *host, "Connection: close", *headers, "", ""]).encode())
    try:
        async with asyncio.timeout(20):
            status = int((await reader.readline()).split()[1])
            return status, (await _to_the_end(reader)).decode("latin-1")
    finally:
        writer.close()


async def test_every_route_outside_the_list_is_404_by_every_method(running: Running) -> None:
    paths = sorted(set(walk(running.app.routes)))
    assert len(paths) > 60 and "/gradio_api/process_recording" in paths and "/gradio_api/file={path_or_url:path}" in paths
    wrong = []
    for path in paths:
        for method in METHODS:
            status, rest = await request(running, method, filled(path), f"Authorization: Bearer {TOKEN}")
            listed = (method, path) in SERVED or (method in LOOK and filled(path).startswith(FOLDERS))
            refused = status == 404 and (method == "HEAD" or UNKNOWN.message in rest)
            if (listed and refused and "{" not in path) or (not listed and not refused):
                wrong.append((method, path, status))
    assert not wrong


async def test_everything_in_the_list_is_there(client: httpx.AsyncClient) -> None:
    for path in PAGE:
        assert (await client.get(path)).status_code == 200, path
    page = (await client.get("/")).text
    files = re.findall(r"(?:src|href)=\"(?:\./)?((?:assets|rill)/[^\"]+)", page)
    assert len(files) > 10
    for path in (*files, "static/js/iframeResizer.contentWindow.min.js", "rill/samples/sample.mp4", "rill/presets/presets.json"):
        assert (await client.get(f"/{path}")).status_code == 200, path


ATTACKS = [
    ("POST", "/gradio_api/process_recording"),
    ("GET", "/gradio_api/file=http://127.0.0.1:1/"),
    ("GET", "/gradio_api/file=/etc/passwd"),
    ("GET", "/gradio_api/proxy=http://127.0.0.1:1/"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/upload"),
    ("POST", "/gradio_api/queue/join"),
    ("GET", "/gradio_api/queue/data?session_hash=x"),
    ("POST", "/gradio_api/call/predict"),
    ("POST", "/gradio_api/call/v2/predict"),
    ("POST", "/gradio_api/run/predict"),
    ("POST", "/gradio_api/stream/x"),
    ("POST", "/gradio_api/reset"),
    ("POST", "/login"),
    ("GET", "/gradio_api/openapi.json"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/gradio_api/info"),
    ("GET", "/gradio_api/heartbeat/x"),
    ("GET", "/config"),
    ("GET", "/monitoring"),
    ("GET", "/static/img/../../../../etc/passwd"),
    ("POST", "/"),
    ("POST", "/healthz"),
    ("OPTIONS", "/rill/view"),
    ("GET", "//gradio_api/info"),
    ("GET", "/gradio_api//info"),
    ("GET", "//"),
    ("GET", "//healthz"),
    ("GET", "/healthz/"),
    ("GET", "/HEALTHZ"),
    ("GET", "/Assets/index.js"),
    ("GET", "/healthz%2f"),
    ("GET", "/%68ealthz"),
    ("GET", "/assets/%2e%2e/%2e%2e/%2e%2e/routes.py"),
    ("GET", "/assets/../../../routes.py"),
    ("GET", "/assets/..%2f..%2froutes.py"),
    ("GET", "/assets/..%5c..%5croutes.py"),
    ("GET", "/assets/.hidden"),
    ("GET", "/assets/"),
    ("GET", "/assets//index.js"),
    ("GET", "/rill/client/../../app.py"),
    ("GET", "/rill/client/./studio.js"),
    ("GET", "/rill/client/%2e/studio.js"),
    ("GET", "/rill/client//studio.js"),
    ("GET", "/rill/client/studio.js%00"),
    ("GET", "/rill/client/studio.js;x"),
    ("GET", "/rill/client%2fstudio.js"),
    ("GET", "/rill/client"),
    ("GET", "/rill/../gradio_api/info"),
    ("GET", "/healthz/../gradio_api/info"),
    ("GET", "/" + "x" * 5000),
    ("GET", "/assets/" + "x" * 300),
    ("GET", "/" + "a/" * 2000),
    ("GET", "/%ff%fe"),
]


@pytest.mark.parametrize(("method", "target"), ATTACKS)
async def test_attacks(running: Running, method: str, target: str) -> None:
    assert (await request(running, method, target))[0] == 404


async def test_a_whole_address_as_target_is_no_way_around(running: Running) -> None:
    for target in (f"http://{running.host}/gradio_api/info", "http://127.0.0.1:1/healthz", "*"):
        assert (await request(running, "GET", target))[0] in (400, 404)


PIECES = [*"/.%\\;:ab=", "..", "gradio_api", "rill", "assets", "client", "view"]


@given(st.sampled_from(METHODS), st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_only_listed_paths_are_allowed(method: str, path: str) -> None:
    if allowed(method, f"/{path}"):
        assert f"/{path}" in LISTED or f"/{path}".startswith(FOLDERS)
        assert ".." not in path and "//" not in path and not set(path) & set("%\\;:=")


@pytest.mark.parametrize(
    ("path", "raw", "root", "found"),
    [
        ("/healthz", b"/healthz", "", "/healthz"),
        ("/healthz", b"/healthz?x=%2f", "", "/healthz"),
        ("/healthz", None, "", "/healthz"),
        ("/studio/healthz", b"/studio/healthz", "/studio", "/healthz"),
        ("/studio/", b"/studio/", "/studio/", "/"),
        ("/studio", b"/studio", "/studio", "/"),
        ("/studios/healthz", b"/studios/healthz", "/studio", None),
        ("/healthz", b"/healthz", "/studio", None),
        ("/healthz", b"/%68ealthz", "", None),
        ("/studio/healthz", b"/studio%2fhealthz", "/studio", None),
    ],
)
def test_the_path_below_the_root(path: str, raw: bytes | None, root: str, found: str | None) -> None:
    assert plain_path(path, raw, root) == found


async def test_no_foreign_page_may_read_anything(running: Running) -> None:
    """Gradio reflects any Origin where a server is reached as localhost."""
    paths = [*sorted({filled(path) for path in walk(running.app.routes)}), PATH, "/nothing"]
    for origin in ("https://evil.example", "null", "http://localhost:1"):
        for path in paths:
            for method, more in (("GET", ()), ("POST", ()), ("OPTIONS", ("Access-Control-Request-Method: POST",))):
                for host in (running.host, f"localhost:{running.port}"):
                    status, rest = await request(running, method, path, f"Origin: {origin}", f"Host: {host}", *more)
                    assert "access-control-" not in rest.partition("\r\n\r\n")[0].lower(), (method, path, origin, host)
                    assert method != "OPTIONS" or status == 404


# Bodies.


class Trickle(httpx.AsyncByteStream):
    """A body that goes on for ever, and counts how much of it was taken."""

    def __init__(self) -> None:
        self.sent = 0

    async def __aiter__(self) -> Any:
        while True:
            self.sent += 1024
            yield bytes(1024)


@pytest.mark.parametrize(
    "target", ["/rill/view", "/", "/healthz", "/gradio_api/upload", "/gradio_api/process_recording", "/nothing"]
)
@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
@pytest.mark.parametrize("form", ["length", "chunked", "claim"])
async def test_no_large_body_is_taken(running: Running, method: str, target: str, form: str) -> None:
    """Refused at once; the connection ends instead of waiting for the rest, which is never sent here."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    about = "Transfer-Encoding: chunked" if form == "chunked" else "Content-Length: 314572800"
    sent = b"".join(b"200\r\n" + bytes(512) + b"\r\n" for _ in range(8)) if form == "chunked" else bytes(4096)
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: {running.host}\r\n{about}\r\n\r\n".encode())
    if form != "claim":
        writer.write(sent)
    async with asyncio.timeout(20):
        status = int((await reader.readline()).split()[1])
        rest = await _to_the_end(reader)
    writer.close()
    assert status == (413 if allowed(method, target) else 404)
    assert b"connection: close" in rest.lower()


async def _to_the_end(reader: asyncio.StreamReader) -> bytes:
    """All that comes before the connection ends, by a close or, with bytes unread there, by a reset."""
    found = b""
    try:
        while data := await reader.read(65536):
            found += data
    except ConnectionError:
        pass
    return found


async def test_a_body_that_never_ends_is_given_up(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(f"POST /rill/view HTTP/1.1\r\nHost: {running.host}\r\nContent-Length: 10\r\n\r\nabc".encode())
    async with asyncio.timeout(20):
        assert b" 408 " in await reader.readline()
        await _to_the_end(reader)
    writer.close()


async def test_a_small_body_does_no_harm(running: Running, client: httpx.AsyncClient) -> None:
    for _ in range(2):  # on one connection
        answer = await client.post("/rill/view", content=b"x" * 1000, headers={"X-Rill-Resume": "nobody"})
        assert answer.status_code == 404 and answer.text == "no such session"
    assert (await client.request("GET", "/healthz", content=b"x")).status_code == 200


# Health and metrics.


async def test_metrics_need_the_token(running: Running) -> None:
    async with httpx.AsyncClient(base_url=f"http://{running.host}", trust_env=False) as client:
        for wrong in (
            {},
            {"Authorization": "Bearer"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": f"Bearer {TOKEN}x"},
        ):
            answer = await client.get("/metrics", headers=wrong)
            assert answer.status_code == 401 and "rill_" not in answer.text
            assert answer.headers["www-authenticate"] == "Bearer"
        assert (await client.get(f"/metrics?token={TOKEN}")).status_code == 401
        assert "rill_sessions" in (await client.get("/metrics", headers=BEARER)).text


async def test_a_port_of_its_own_has_metrics_and_nothing_else() -> None:
    with serving(with_page=True, metrics=True) as server:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.metrics_port}", trust_env=False) as client:
            assert "rill_sessions" in (await client.get("/metrics")).text
            assert (await client.get("/healthz")).status_code in (200, 503)
            for path in ("/", "/rill/view", "/rill/client/studio.js", "/config", PATH):
                assert (await client.get(path)).status_code == 404, path
        with pytest.raises(InvalidStatus) as caught:
            async with connect(
                f"ws://127.0.0.1:{server.metrics_port}{PATH}", subprotocols=[Subprotocol(SUBPROTOCOL)], proxy=None
            ):
                pass
        assert caught.value.response.status_code == 404
        assert (await request(server, "GET", "/metrics"))[0] == 401


async def test_health_names_no_path() -> None:
    def broken(spec: Any) -> Any:
        raise RuntimeError("/home/somebody/models/broken.safetensors: cannot be read")

    with serving(factory=broken) as server:
        async with httpx.AsyncClient(base_url=f"http://{server.host}", trust_env=False) as client:
            while (answer := await client.get("/healthz")).json()["status"] == "loading":
                await asyncio.sleep(0.01)
    assert answer.status_code == 500 and answer.json() == {"status": "failed"}


async def test_health_of_a_local_model_names_no_path(
    running: Running, monkeypatch: pytest.MonkeyPatch, client: httpx.AsyncClient
) -> None:
    monkeypatch.setattr(running.pipeline.info, "name", "/home/somebody/models/mine")
    assert "somebody" not in json.dumps((await client.get("/healthz")).json())
