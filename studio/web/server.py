"""The web application: websocket, health, metrics, the browser client's files, and the page mounted last.

With studio/web/guard.py, which stands before it, and files.py the only module beside studio/web/page/ that imports FastAPI.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect, WebSocketDisconnected

from pipelines import FIELDS
from studio.visit.config import ServerConfig
from studio.visit.connection import Connection
from studio.visit.hub import Hub, PipelineFactory
from studio.visit.views import MEDIA_TYPE, ViewError, Views, parts
from studio.web.content_policy import of_small_page, text_of
from studio.web.files import FreshFiles
from studio.web.guard import Guard
from studio.web.join import code
from studio.web.login import COOKIE_S, LOGIN, Attempts, Door, fields
from studio.web.login import page as page_of
from studio.web.shutdown import in_own_thread
from studio.wire.origin import judge, own_origin
from studio.wire.protocol import PATH, SUBPROTOCOL
from studio.wire.sockets import Disconnected

log = logging.getLogger("rill")

ASSETS = Path(__file__).resolve().parents[2] / "assets"

STATIC = ("client", "samples", "presets")


def create_app(config: ServerConfig, factory: PipelineFactory, *, with_page: bool = True) -> FastAPI:
    """The application. The model begins to load once the page is built, in its own thread: imports take turns, and the page
    comes first.

    `app.state.hub` is the Hub. with_page False leaves Gradio out (tests, headless servers).
    """
    hub = Hub(config, factory)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(_sweep(hub))
        try:
            yield
        finally:
            sweeper.cancel()
            await in_own_thread(hub.close, hub.limits.end_s)

    app = FastAPI(title="Rill", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.hub = hub
    door = Door(config.token, config.public, config.users)
    _declare_routes(app, hub, door)
    _declare_login(app, hub, door)
    for name in STATIC:
        if (ASSETS / name).is_dir():
            app.mount(f"/rill/{name}", FreshFiles(directory=ASSETS / name), name=name)
    if with_page and importlib.util.find_spec("studio.web.page") is not None:
        # Gradio reads this when it is imported; the studio makes no outbound request.
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        page = importlib.import_module("studio.web.page")
        pipeline = hub.pipeline
        app = page.mount(app, fields=FIELDS, spec=hub.spec(), info=None if pipeline is None else pipeline.info)
    # Last, and so before everything else.
    app.add_middleware(Guard, rule=config.rule, door=door, limits=config.limits, metrics_port=config.metrics_port)
    hub.start()
    return app


def _declare_routes(app: FastAPI, hub: Hub, door: Door) -> None:
    @app.websocket(PATH)
    async def stream(websocket: WebSocket) -> None:
        await _serve(websocket, hub, door)

    @app.get("/healthz")
    async def health() -> Response:
        status, body = hub.health()
        return JSONResponse(body, status)

    @app.post("/rill/view")
    async def view(request: Request) -> Response:
        if judge(request.scope["scheme"], request.scope["headers"], hub.config.rule) in ("foreign", "host"):
            return PlainTextResponse("this Origin may not make views", 403)
        try:
            token = hub.view(request.headers.get("x-rill-resume", ""), request.headers.get("x-rill-output", ""))
        except ViewError as error:
            return PlainTextResponse(error.message, error.status)
        return PlainTextResponse("no such session", 404) if token is None else JSONResponse({"token": token})

    @app.get("/rill/view.mjpeg")
    async def pictures(token: str = "") -> Response:
        return Watching(hub.views, token)

    @app.get("/rill/join.svg")
    async def join(request: Request, path: str = "/") -> Response:
        try:
            own = own_origin(request.scope["scheme"], request.scope["headers"], hub.config.rule.trusted_proxy)
            picture = code(str(own), path)
        except ValueError as error:
            return PlainTextResponse(str(error), 400)
        return Response(picture, media_type="image/svg+xml", headers={"Cache-Control": "no-cache"})

    clean_page = (ASSETS / "view.html").read_text(encoding="utf-8")
    clean_policy = text_of(of_small_page(clean_page))

    @app.get("/rill/view")
    async def clean() -> Response:
        return HTMLResponse(clean_page, headers={"Cache-Control": "no-cache", "Content-Security-Policy": clean_policy})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(hub.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _declare_login(app: FastAPI, hub: Hub, door: Door) -> None:
    template = (ASSETS / "login.html").read_text(encoding="utf-8")
    policy, attempts, rule = text_of(of_small_page(template)), Attempts(), hub.config.rule
    above = {"Cache-Control": "no-store", "Location": "../"}  # relative: a proxy may have put the studio below a path

    def form(status: int, message: str = "") -> Response:
        headers = {"Cache-Control": "no-store", "Content-Security-Policy": policy}
        return HTMLResponse(page_of(template, door, message), status, headers)

    @app.get(LOGIN)
    async def login_page() -> Response:
        return Response(status_code=303, headers=above) if door.public else form(200)

    @app.post(LOGIN)
    async def enter(request: Request) -> Response:
        if judge(request.scope["scheme"], request.scope["headers"], rule) in ("foreign", "host"):
            return form(403, "This page came from another site.")
        address = _address(request, rule.trusted_proxy)
        if not attempts.take(address, hub.clock()):
            return form(429, "Too many attempts. Please wait a minute.")
        if not door.opens(fields(await request.body())):
            hub.metrics.refusals.labels("login").inc()
            log.warning("failed sign-in from %s", address)
            return form(401, "That is not right. Please try again.")
        answer = Response(status_code=303, headers=above)
        own = own_origin(request.scope["scheme"], request.scope["headers"], rule.trusted_proxy)
        path = request.scope.get("root_path", "") + "/"
        secure = own.scheme == "https"
        value = door.cookie(time.time())
        answer.set_cookie(door.cookie_name, value, COOKIE_S, path=path, secure=secure, httponly=True, samesite="lax")
        return answer


def _address(request: Request, trusted_proxy: bool) -> str:
    """Whose attempts to sign in these are: behind a proxy, the address that the proxy itself saw."""
    forwarded = request.headers.getlist("x-forwarded-for") if trusted_proxy else []
    seen = ",".join(forwarded).rpartition(",")[2].strip()
    return seen or (request.client.host if request.client else "")


async def _sweep(hub: Hub) -> None:
    while True:
        await asyncio.sleep(1.0)
        hub.sweep()


async def _serve(websocket: WebSocket, hub: Hub, door: Door) -> None:
    standing = judge(websocket.scope["scheme"], websocket.scope["headers"], hub.config.rule)
    refusals = {"foreign": (403, "this Origin may not connect"), "host": (400, "this server does not answer to that Host")}
    refusal = refusals.get(standing)
    if refusal is None and SUBPROTOCOL not in websocket.scope["subprotocols"]:
        refusal = (400, f"the subprotocol {SUBPROTOCOL} is needed")
    if refusal is not None:
        status, reason = refusal
        hub.metrics.refusals.labels(f"handshake_{status}").inc()
        await websocket.send_denial_response(PlainTextResponse(reason, status))
        return
    await websocket.accept(SUBPROTOCOL)
    stranger = standing == "absent" or not door.admits(websocket.scope["headers"], time.time())
    await Connection(WebSocketSocket(websocket), hub, must_show_token=stranger).run()


class Watching(Response):
    """A session's pictures for one viewer, whose place is held for exactly as long as the answer lasts."""

    def __init__(self, views: Views, token: str) -> None:
        super().__init__()
        self._views, self._token = views, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._views.watch(self._token) as view:
                pictures = StreamingResponse(parts(view), media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})
                await pictures(scope, receive, send)
        except ViewError as error:
            await PlainTextResponse(error.message, error.status)(scope, receive, send)


class WebSocketSocket:
    """Starlette's websocket as a studio.wire.sockets.Socket."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive(self) -> str | bytes:
        try:
            message = await self._websocket.receive()
        except WebSocketDisconnected as error:
            raise Disconnected from error
        if message["type"] == "websocket.disconnect":
            raise Disconnected
        data = message.get("bytes")
        return message["text"] if data is None else bytes(data)

    async def send(self, message: str | bytes) -> None:
        try:
            if isinstance(message, str):
                await self._websocket.send_text(message)
            else:
                await self._websocket.send_bytes(message)
        except (WebSocketDisconnect, WebSocketDisconnected) as error:
            raise Disconnected from error

    async def close(self, code: int, reason: str) -> None:
        with contextlib.suppress(WebSocketDisconnect, WebSocketDisconnected):
            await self._websocket.close(code, reason)
