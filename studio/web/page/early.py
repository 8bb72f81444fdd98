"""The head of the page: how it begins, and its policy. Gradio adds its own `head` by a script, after its modules have run."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studio.web.content_policy import of_studio, text_of
from studio.wire.origin import Origin, own_origin


class EarlyHead:
    """ASGI middleware: the answer to GET / has `markup` (HTML) at the beginning of its head, a manifest that is found below a
    proxy's sub-path, too, and a content policy that names its inline scripts; everything else passes as it is."""

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
                body = body.replace(b"<head>", self._opening, 1).replace(b'href="/manifest.json"', b'href="manifest.json"', 1)
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
