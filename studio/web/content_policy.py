"""The content security policies of what the server answers: where scripts, pictures and connections of a page may come from.

Pure functions; who may show the page in a frame is added by studio/web/guard.py.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence

from studio.wire.origin import Origin

Policy = Mapping[str, Sequence[str]]

FILES: Policy = {"default-src": ("'self'",), "object-src": ("'none'",), "base-uri": ("'none'",), "form-action": ("'none'",)}
"""Of everything that is no page. Scripts and workers are among it, and a worker obeys its own file's policy."""

_INLINE = re.compile(r"<(script|style)\b(?![^>]*\ssrc\s*=)[^>]*>(.*?)</\1>", re.DOTALL | re.IGNORECASE)


def text_of(policy: Policy) -> str:
    """The header's value."""
    return "; ".join(" ".join((name, *sources)) for name, sources in policy.items())


def hashes(html: str, tag: str) -> list[str]:
    """Sources that allow the inline scripts (tag "script") or style sheets ("style") of this page, and no others."""
    found = (match[2] for match in _INLINE.finditer(html) if match[1].lower() == tag)
    digests = (hashlib.sha256(text.replace("\r\n", "\n").encode()).digest() for text in found)
    return list(dict.fromkeys(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests))


def of_studio(html: str, own: Origin | None) -> Policy:
    """Of Gradio's page as it is sent. own: the address that the browser used, None if it is not known.

    'unsafe-eval': Gradio compiles the `js` of an event with the constructor of functions, also where there is none in Python;
    without it the client is not even started. 'unsafe-inline' for styles alone: Svelte and Gradio write style attributes.
    Websockets of the same host by name, since not every browser takes 'self' for them; ws and wss, so that a proxy that is not
    known gets its refusal, and the page words for it.
    """
    authority = "" if own is None else str(own).partition("://")[2]
    sockets = [f"{scheme}://{authority}" for scheme in ("ws", "wss") if authority]
    return {
        "default-src": ("'self'",),
        "script-src": ("'self'", "'unsafe-eval'", *hashes(html, "script")),
        "style-src": ("'self'", "'unsafe-inline'"),
        "img-src": ("'self'", "blob:", "data:"),
        "media-src": ("'self'", "blob:"),
        "font-src": ("'self'", "data:"),
        "connect-src": ("'self'", *sockets),
        "worker-src": ("'self'",),
        "frame-src": ("'none'",),
        "object-src": ("'none'",),
        "base-uri": ("'self'",),
        "form-action": ("'self'",),
    }


def of_small_page(html: str) -> Policy:
    """Of a page of ours that is one file: its own inline script and styles, pictures and answers of this server, nothing else."""
    return {
        "default-src": ("'none'",),
        "script-src": tuple(hashes(html, "script")) or ("'none'",),
        "style-src": tuple(hashes(html, "style")) or ("'none'",),
        "img-src": ("'self'",),
        "connect-src": ("'self'",),
        "base-uri": ("'none'",),
        "form-action": ("'self'",),
    }
