"""The head of the page: how it begins, and its policy. Gradio adds its own `head` by a script, after its modules have run."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studio.web.content_policy import of_studio, text_of
from studio.wire.origin import Origin, own_origin

_ROOT = re.compile(rb'const root = "[^"]*";')
_MANIFEST = re.compile(rb'<link rel="manifest" href="/manifest.json" ?/?>')


def below_its_path(page: bytes) -> bytes:
    """Gradio's page (HTML) without two addresses that are wrong below a reverse proxy's sub-path: its own, which it takes from
    the request that reached the server, and that of its manifest, whose icons are addressed from the site's root, too."""
    return _MANIFEST.sub(b"", _ROOT.sub(b"const root = document.baseURI;", page, count=1), count=1)


class EarlyHead:
    """ASGI middleware: the answer to GET / has `markup` (HTML) at the beginning of its head, no address that only a site's root
    has, and a content policy that names its inline scripts; everything else passes as it is."""

    def __init__(self, app: ASGIApp, markup: str) -> None:
        self._app = app
        self._opening = b"<head>" + markup.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].removeprefix(scope.get("root_path", "")) not in ("", "/"):
            return await self._app(scope, receive, send)
        plain = [header for header in scope["headers"] if header[0] != b"accept-encoding"]  # a compressed head cannot be added to
        start: Message = {}
        body = b""

        async def collect(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
            if message["type"] != "http.response.body":
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            if scope["method"] == "GET":
                body = below_its_path(body.replace(b"<head>", self._opening, 1))
                kept = [header for header in start["headers"] if header[0] != b"content-length"]
                policy = text_of(of_studio(body.decode("utf-8", "replace"), _own(scope))).encode()
                start["headers"] = [*kept, (b"content-length", str(len(body)).encode()), (b"content-security-policy", policy)]
            await send(start)
            await send({"type": "http.response.body", "body": body})

        return await self._app({**scope, "headers": plain}, receive, collect)


def _own(scope: Scope) -> Origin | None:
    """The address that the browser used. Forwarding headers are here only where a trusted proxy may have set them."""
    try:
        return own_origin(scope["scheme"], scope["headers"], trusted_proxy=True)
    except ValueError:
        return None
