"""Mounts the page and the browser client's files on the server's application."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from studio.page.layout import build
from studio.page.theme import theme

ASSETS = Path(__file__).resolve().parents[2] / "assets"
FOLDERS = ("client", "samples")
MODULES = ("studio", "parts", "connection", "pump", "settings", "sources", "stats", "view", "protocol", "link", "media")


def mount(app: FastAPI, *, fields: Mapping[str, Any], spec: Any, info: Any) -> FastAPI:
    """Adds the page at / and the client's files under /rill/. Call it after every other route, or the page will hide them.

    fields: the declared live settings (pipelines.FIELDS); spec, info: what runs, or None while it is not known.
    """
    present = {route.path for route in app.routes if isinstance(route, Mount)}
    for folder in FOLDERS:
        if "/rill" not in present and f"/rill/{folder}" not in present:
            app.mount(f"/rill/{folder}", StaticFiles(directory=ASSETS / folder), name=f"rill-{folder}")
    return gr.mount_gradio_app(
        app,
        build(fields, spec, info),
        path="/",
        ssr_mode=False,
        run_history=False,
        footer_links=[],
        show_error=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        head=head(),
    )


def head() -> str:
    """Style sheet and module preloads: the client is on its way before Gradio asks for it."""
    links = ['<link rel="stylesheet" href="rill/client/studio.css">']
    links += [f'<link rel="modulepreload" href="rill/client/{name}.js">' for name in MODULES]
    return "\n".join([*links, '<meta name="description" content="Rill: a live diffusion studio">'])
