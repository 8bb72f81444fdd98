"""A server from its configuration and its listening sockets until a signal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import logging
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

import uvicorn

from pipelines import StreamSpec
from studio import environment
from studio.cli.arguments import graph_limits_of, safety_of
from studio.cli.log_limit import limit_logs
from studio.pictures.native_errors import relay_native_errors
from studio.visit.config import ServerConfig
from studio.visit.hub import Hub
from studio.web import login
from studio.web.server import create_app
from studio.web.shutdown import Server, Shutdown
from studio.wire import token_file
from studio.wire.admission import Admission
from studio.wire.http_protocol import HttpProtocol
from studio.wire.limits import Limits
from studio.wire.listener import Listener, affordable_connections
from studio.wire.websocket_protocol import WebSocketProtocol

if TYPE_CHECKING:
    from pipelines import SafetyChecker, StreamPipeline

log = logging.getLogger("rill")


def main(config: ServerConfig, listener: socket.socket, private: Sequence[socket.socket], args: argparse.Namespace) -> int:
    """Serve until a signal; the exit code: 0 for SIGTERM, 130 for SIGINT. private: the listening socket for metrics, if any."""
    relay_native_errors()
    logging.basicConfig(level=args.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    limit_logs()
    shutdown = Shutdown()
    with contextlib.ExitStack() as stack:
        for opened in (listener, *private):
            stack.enter_context(contextlib.closing(opened))
        for opened in private:
            config = replace(config, metrics_port=opened.getsockname()[1])
            log.info("metrics without a token: http://127.0.0.1:%d/metrics", config.metrics_port)
        stack.enter_context(shutdown.handled())
        run(config, [listener, *private], args, shutdown)
    return shutdown.finish()


def run(config: ServerConfig, listeners: Sequence[socket.socket], args: argparse.Namespace, shutdown: Shutdown) -> None:
    """Build the application on bound sockets, the second of them for metrics if there is one, and serve until a signal."""

    @cache
    def safety() -> SafetyChecker | None:
        return safety_of(args)

    def factory(spec: StreamSpec) -> StreamPipeline:
        from pipelines import load  # torch, in the model's thread: the page is served without it

        # A visitor's change never downloads a model, which may have gigabytes. LoRAs of the hub are those of the start.
        offline, graphs = args.offline or spec.model != config.spec.model, graph_limits_of(args)
        return load(spec, environment.cache_dir(), offline, safety(), graphs=graphs)

    public, *private = listeners
    app = create_app(config, factory)
    hub: Hub = app.state.hub
    admission = Admission(
        replace(config.limits, max_connections=affordable_connections(config.limits.max_connections)),
        per_address=not config.rule.trusted_proxy,
    )
    server = shutdown.server = Server(
        uvicorn.Config(
            app,
            log_level="warning" if args.log_level == "info" else args.log_level,
            access_log=args.log_level == "debug",
            proxy_headers=False,  # studio/wire/origin.py reads the trusted ones
            server_header=False,
            ssl_certfile=args.ssl_certfile,
            ssl_keyfile=args.ssl_keyfile,
            timeout_graceful_shutdown=1,
            **websocket_options(config.limits, admission),  # type: ignore[arg-type]
        )
    )
    address = describe_address(public, tls=args.ssl_certfile is not None)

    async def serve() -> None:
        async with announcing(server, hub, address, config.token):
            admitting = [Listener.adopt(public, admission, tls=args.ssl_certfile is not None)]
            admitting += [Listener.adopt(one, Admission(config.limits)) for one in private]
            await server.serve(list(admitting))

    with token_file.published(public.getsockname()[1], config.token, environment.private_dirs()):
        asyncio.run(serve())


def websocket_options(limits: Limits, admission: Admission | None = None) -> dict[str, object]:
    """uvicorn's settings: limited sizes, rates and times; no compression; dead websockets are found within 40 s.

    admission: the listener's; None admits every client.
    """
    admission = Admission(limits) if admission is None else admission  # an empty one is false
    return {
        "http": partial(HttpProtocol, admission),
        "timeout_keep_alive": limits.keep_alive_s,
        "ws": partial(WebSocketProtocol, admission),
        "ws_max_size": limits.max_frame_bytes + 64,
        "ws_max_queue": 4,
        "ws_ping_interval": 20.0,
        "ws_ping_timeout": 20.0,
        "ws_per_message_deflate": False,
    }


@contextlib.asynccontextmanager
async def announcing(server: uvicorn.Server, hub: Hub, address: str, token: str) -> AsyncIterator[None]:
    """Print the address when the server listens, and the state of the model when it is loaded or has failed."""
    task = asyncio.create_task(_announce(server, hub, address, token))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _announce(server: uvicorn.Server, hub: Hub, address: str, token: str) -> None:
    while not server.started:
        await asyncio.sleep(0.02)
    state = "" if hub.fleet.loaded.done() else "  (the model is still loading)"
    print(f"Rill is listening on {address}{state}", flush=True)
    known = environment.token() is not None
    for line in login.words(hub.config.public, bool(hub.config.users), address, None if known else token):
        print(line, flush=True)
    while not (loaded := hub.fleet.loaded).done():
        await asyncio.sleep(0.05)
    if (error := loaded.exception()) is not None:
        print(f"The model cannot be loaded: {error}", file=sys.stderr, flush=True)
        return
    spec = loaded.result().spec
    devices = ", ".join(owner.loaded.result().spec.device for owner in hub.fleet.owners)
    print(f"Model {spec.model} is ready: {spec.width}x{spec.height}, {spec.backend}, {spec.dtype} on {devices}", flush=True)


def describe_address(listener: socket.socket, tls: bool) -> str:
    """The URL to open; "every interface" is shown as localhost."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        host = "localhost"
    elif ":" in host:
        host = f"[{host}]"
    return f"{'https' if tls else 'http'}://{host}:{port}"
