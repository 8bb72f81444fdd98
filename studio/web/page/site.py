"""Mounts the page on the server's application."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from fastapi import FastAPI

from studio.web.page.early import EarlyHead
from studio.web.page.layout import build
from studio.web.page.theme import theme

T = TypeVar("T")

CLIENT = Path(__file__).resolve().parents[3] / "assets" / "client"
ICON = CLIENT / "icon.svg"
_IMPORT = re.compile(r'^(?:import|export) .* from "(\.[^"]+)";$', re.MULTILINE)


def mount(app: FastAPI, *, fields: Mapping[str, Any], spec: Any, info: Any) -> FastAPI:
    """Adds the page at /. Call it after every other route, or the page will hide them; the client's files are at /rill/client.

    fields: the declared live settings (pipelines.FIELDS); spec, info: what runs, or None while it is not known.
    """

    def work() -> FastAPI:
        return gr.mount_gradio_app(
            app,
            build(fields, spec, info),
            path="/",
            ssr_mode=False,
            run_history=False,
            footer_links=[],
            show_error=False,
            favicon_path=str(ICON),
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=theme(),
            head=STYLE,
        )

    app.add_middleware(EarlyHead, markup=head())
    return in_event_loop(work)


def in_event_loop(work: Callable[[], T]) -> T:
    """Calls `work` where an event loop is running: outside of one Gradio opens a loop for every lock and never closes it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:

        async def inside() -> T:
            return work()

        return asyncio.run(inside())
    return work()


SHEETS = ("studio", "controls")
STYLE = "".join(f'<link rel="stylesheet" href="rill/client/{name}.css">' for name in SHEETS)
"""Gradio adds it behind its own style sheets, so that ours has the last word."""


def modules() -> list[str]:
    """Every module that studio.js needs at once, by its path below assets/client, without those that `import()` brings later."""
    found = [CLIENT / "studio.js"]
    for path in found:
        needed = [(path.parent / name).resolve() for name in _IMPORT.findall(path.read_text(encoding="utf-8"))]
        found += [each for each in dict.fromkeys(needed) if each not in found]
    return [path.relative_to(CLIENT).as_posix() for path in found]


def head() -> str:
    """What has to run before Gradio, and what is fetched beside it: the client is on its way before Gradio requests it."""
    links = ['<script src="rill/client/calm.js"></script>', '<link rel="icon" type="image/svg+xml" href="rill/client/icon.svg">']
    links += [f'<link rel="preload" as="style" href="rill/client/{name}.css">' for name in SHEETS]
    links += [f'<link rel="modulepreload" href="rill/client/{name}">' for name in modules()]
    return "\n".join([*links, '<meta name="description" content="Rill: a live diffusion studio">'])
