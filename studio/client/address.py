"""The address of a studio's stream, and what goes wrong on the way there."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from pipelines import RillError
from studio.wire import protocol


class StudioError(RillError):
    """The server refused, or cannot be reached. `code` as in docs/protocol-messages.md, "" where there is none."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def stream_url(url: str) -> str:
    """ws:// or wss:// address of the stream below an http(s) or ws(s) address. Raises StudioError."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise StudioError(f"{url}: is no http(s) or ws(s) address")
    if parts.query or parts.fragment or parts.username:
        raise StudioError(f"{url}: an address only; the token is given apart from it")
    path = parts.path.rstrip("/")
    return urlunsplit((scheme, parts.netloc, path if path.endswith(protocol.PATH) else path + protocol.PATH, "", ""))
