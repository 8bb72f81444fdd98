"""What stands before the application: host, address and body of every request are checked, and every answer gets the same
security headers. Nothing that is refused here reaches a route.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from fastapi.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from studio.web import body
from studio.web.allowed import METRICS, PAGE, WITHOUT_LOGIN, allowed, plain_path, websocket_allowed
from studio.web.content_policy import FILES, text_of
from studio.web.login import LOGIN, Door
from studio.wire.limits import Limits
from studio.wire.origin import AddressRule, host_allowed, own_origin

HIDDEN = (b"access-control-",)
"""Headers of answers that begin so are removed: no page of another origin may read what this server answers."""

POLICY = b"content-security-policy"

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), display-capture=(self), microphone=(), geolocation=()"),
)
"""Headers of every answer."""

FORWARDED = frozenset({b"x-forwarded-host", b"x-forwarded-proto"})
"""Headers of requests that Gradio trusts; without a trusted proxy they are removed."""

INTERNAL = frozenset({b"x-gradio-server"})
"""One that it trusts, of its own server for rendering, which is not used here; it is always removed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer instead of the application's."""

    status: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()


UNKNOWN = Refusal(404, "there is nothing at this address")
WRONG_HOST = Refusal(400, "this server does not answer to that Host")
NEEDS_TOKEN = Refusal(401, "the API token is needed, as Authorization: Bearer", (("www-authenticate", "Bearer"),))
NEEDS_LOGIN = Refusal(401, "sign in first, or show the API token as Authorization: Bearer", (("www-authenticate", "Bearer"),))
TO_LOGIN = Refusal(303, "sign in first", (("location", LOGIN.removeprefix("/")), ("cache-control", "no-store")))
"""Relative, since a proxy may have put the studio below a path that is not known here."""


class Guard:
    """ASGI middleware, the outermost one.

    metrics_port: the port on which only /metrics and /healthz are answered, and without a token.
    """

    def __init__(
        self, app: ASGIApp, rule: AddressRule, door: Door, limits: Limits | None = None, metrics_port: int | None = None
    ) -> None:
        self._app = app
        self._rule = rule
        self._door = door
        self._limits = limits or Limits()
        self._metrics_port = metrics_port
        self._framing = framing(rule)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        refusal = self._refusal(scope)
        if scope["type"] == "websocket":
            if refusal is None:
                return await self._app(scope, receive, send)
            return await WebSocket(scope, receive, send).send_denial_response(_answer(refusal, False))
        await self._http(scope, receive, self._dressed(send), refusal)

    async def _http(self, scope: Scope, receive: Receive, send: Send, refusal: Refusal | None) -> None:
        size = body.announced(scope["headers"])
        if refusal is not None:
            return await _answer(refusal, size != 0)(scope, receive, send)
        try:
            read = await body.read(receive, size, self._limits.max_body_bytes, self._limits.body_s)
        except body.Gone:
            return
        except body.BodyError as error:
            return await _answer(Refusal(error.status, error.message), True)(scope, receive, send)
        await self._app(self._cleaned(scope), receive if size == 0 else body.replayed(read, receive), send)

    def _cleaned(self, scope: Scope) -> Scope:
        """The request without what would only mislead Gradio: addresses it trusts, and queries (a wrong ?page= is an error)."""
        removed = INTERNAL if self._rule.trusted_proxy else INTERNAL | FORWARDED
        cleaned = {**scope, "headers": [header for header in scope["headers"] if header[0] not in removed]}
        if plain_path(scope["path"], scope.get("raw_path"), scope.get("root_path", "")) in PAGE:
            cleaned["query_string"] = b""  # what stands in the page's address is read by its scripts
        return cleaned

    def _refusal(self, scope: Scope) -> Refusal | None:
        """Why this request does not reach the application, None if it does. Host and Origin of a websocket are checked there."""
        path = plain_path(scope["path"], scope.get("raw_path"), scope.get("root_path", ""))
        private = self._metrics_port is not None and (scope.get("server") or ("", None))[1] == self._metrics_port
        if scope["type"] == "websocket":
            return None if path is not None and websocket_allowed(path) and not private else UNKNOWN
        if not self._host_allowed(scope):
            return WRONG_HOST
        if path is None:
            return UNKNOWN
        if private:
            return None if allowed(scope["method"], path, METRICS, ()) else UNKNOWN
        if not allowed(scope["method"], path):
            return UNKNOWN
        if path == "/metrics":
            return None if self._door.has_token(scope["headers"]) else NEEDS_TOKEN
        if (scope["method"], path) in WITHOUT_LOGIN or self._door.admits(scope["headers"], time.time()):
            return None
        return TO_LOGIN if path == "/" else NEEDS_LOGIN

    def _host_allowed(self, scope: Scope) -> bool:
        try:
            own = own_origin(scope["scheme"], scope["headers"], self._rule.trusted_proxy)
        except ValueError:
            return False
        return host_allowed(own, self._rule)

    def _dressed(self, send: Send) -> Send:
        """`send` with the security headers on every answer, and without those that would open it to other pages."""

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [header for header in message.get("headers", ()) if not header[0].lower().startswith(HIDDEN)]
                policies = [value for name, value in kept if name.lower() == POLICY] or [text_of(FILES).encode()]
                policy = b"; ".join([*policies, *self._framing])
                others = [header for header in kept if header[0].lower() != POLICY]
                message["headers"] = [*others, *HEADERS, (POLICY, policy)]
            await send(message)

        return dressed


def framing(rule: AddressRule) -> list[bytes]:
    """The part of every content policy that lists the pages that may show this server in a frame."""
    if rule.trusted_proxy:  # a hosted studio is shown in a frame, and its host decides in which
        return []
    return [" ".join(["frame-ancestors 'self'", *(str(origin) for origin in rule.allowed)]).encode()]


def _answer(refusal: Refusal, unread: bool) -> PlainTextResponse:
    """unread: a body is on its way that is not read; the connection ends with this answer."""
    closing = {"connection": "close"} if unread else {}
    return PlainTextResponse(refusal.message, refusal.status, headers={**dict(refusal.headers), **closing})
