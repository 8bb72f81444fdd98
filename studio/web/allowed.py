"""Which requests reach the application: a list of methods and paths. Gradio mounts about seventy routes more, among them ones
that read files, fetch addresses and store what is sent; the page uses none of those, so everything outside the list is 404.

Pure functions of a request's method and path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from studio.wire.protocol import PATH

LOOK = frozenset({"GET", "HEAD"})
GET = frozenset({"GET"})

OWN: Mapping[str, frozenset[str]] = {
    "/healthz": GET,
    "/metrics": GET,
    "/rill/join.svg": GET,
    "/rill/login": GET | {"POST"},
    "/rill/view": GET | {"POST"},
    "/rill/view.mjpeg": GET,
}
"""The studio's own routes, beside the websocket (`studio.wire.protocol.PATH`)."""

PAGE: Mapping[str, frozenset[str]] = {
    "/": LOOK,
    "/favicon.ico": GET,
    "/manifest.json": GET,
    "/pwa_icon": GET,
    "/theme.css": GET,
}
"""What Gradio serves of the page. tests/browser looks for requests that fail, so a new Gradio that needs more is noticed."""

LISTED: Mapping[str, frozenset[str]] = {**OWN, **PAGE}

FOLDERS = ("/assets/", "/static/js/", "/rill/client/", "/rill/samples/", "/rill/presets/")
"""Folders of files that may be read."""

METRICS: Mapping[str, frozenset[str]] = {path: OWN[path] for path in ("/healthz", "/metrics")}
"""All that the private port of `--metrics-port` answers."""

WITHOUT_LOGIN = frozenset(
    {
        ("GET", "/healthz"),
        ("GET", "/favicon.ico"),
        ("GET", "/manifest.json"),
        ("GET", "/pwa_icon"),
        ("GET", "/rill/login"),
        ("POST", "/rill/login"),
        ("GET", "/rill/view"),
        ("GET", "/rill/view.mjpeg"),
    }
)
"""Requests that need no login where others do: the page to sign in, health, name and icon (which browsers request
without cookies), and views, which have tokens of their own."""

_FILE = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}/){0,3}[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


def plain_path(path: str, raw_path: bytes | None, root_path: str) -> str | None:
    """The path below `root_path`, beginning with a slash; None if it is elsewhere or has a percent escape in it.

    path: as ASGI gives it, decoded, with the root path. raw_path: as it was sent, None where a server does not give it.
    """
    root = root_path.rstrip("/")
    if root and path != root and not path.startswith(f"{root}/"):
        return None
    below = path[len(root) :]
    if raw_path is not None and not raw_path.partition(b"?")[0].endswith(below.encode("utf-8", "surrogatepass")):
        return None  # an escape: no file and no route of the list needs one
    return below or "/"


def allowed(method: str, path: str, listed: Mapping[str, frozenset[str]] = LISTED, folders: tuple[str, ...] = FOLDERS) -> bool:
    """May this request reach the application? path: of `plain_path`. Letters' case counts; nothing is made canonical."""
    if path in listed:
        return method in listed[path]
    folder = next((folder for folder in folders if path.startswith(folder)), None)
    return folder is not None and method in LOOK and _FILE.fullmatch(path[len(folder) :]) is not None


def websocket_allowed(path: str) -> bool:
    """The same for a websocket's handshake."""
    return path == PATH
