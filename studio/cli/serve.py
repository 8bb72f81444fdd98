"""The command `serve`: parses arguments and runs the server."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import logging
import re
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import uvicorn

from pipelines import SafetyChecker, Settings, SettingsError, SpecError, StreamPipeline, StreamSpec, load
from studio import environment
from studio.cli.arguments import add_graph_arguments, add_spec_arguments, assignments, graph_limits_of, safety_of, spec_of
from studio.cli.log_limit import limit_logs
from studio.model.change import WHO, ChangeRule
from studio.pictures.native_errors import relay_native_errors
from studio.visit.blocklist import Blocklist, read_blocklist
from studio.visit.hub import Hub, ServerConfig
from studio.web import login
from studio.web.shutdown import Server, Shutdown
from studio.wire import token_file
from studio.wire.admission import Admission
from studio.wire.http_protocol import HttpProtocol
from studio.wire.limits import Limits
from studio.wire.listener import Listener, affordable_connections
from studio.wire.origin import AddressRule, Origin, parse_authority, parse_origin
from studio.wire.websocket_protocol import WebSocketProtocol

log = logging.getLogger("rill")

OPENING: dict[str, dict[str, object]] = {"pocket": {"cache.enabled": True, "prompt": "starry blue swirl"}}
"""What sessions start with: accelerations whose loss of quality was measured (`bench ablation`), and one of the best looks."""

MOST = 65536
BOUNDS = {"max_sessions": (1, 64), "max_waiting": (0, 10_000), "max_connections": (1, MOST), "max_per_address": (1, MOST)}

LEVELS = ("debug", "info", "warning", "error")


class UsageError(Exception):
    """The arguments cannot be used; the message is for the user."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `serve`."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is every interface (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=7860, help="0 is any free port (default: %(default)s)")
    add_spec_arguments(parser)
    add_graph_arguments(parser)
    parser.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="initial value of a live setting in every session (docs/settings.md); the pocket model has cache.enabled=true",
    )
    parser.add_argument(
        "--devices",
        metavar="DEVICE,...",
        help="several devices instead of --device (cuda:0,cuda:1), each with its own model",
    )
    parser.add_argument("--max-sessions", type=int, default=4, help="visitors at a time (default: %(default)s)")
    parser.add_argument("--max-connections", type=int, default=1024, help="TCP connections at a time (default: %(default)s)")
    per_address = "connections from one address (IPv6: one /64 network); unlimited with --trusted-proxy (default: %(default)s)"
    parser.add_argument("--max-per-address", type=int, default=256, help=per_address)
    parser.add_argument(
        "--max-waiting",
        type=int,
        default=Limits().max_waiting,
        help="visitors who may wait in line for a place (default: %(default)s)",
    )
    parser.add_argument(
        "--turn", type=float, default=120.0, metavar="SECONDS", help="length of a visit while others wait (default: %(default)s)"
    )
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="another origin that may connect; may be repeated",
    )
    login.add_arguments(parser)
    parser.add_argument("--trusted-proxy", action="store_true", help="trust X-Forwarded-Proto, -Host and -For from a proxy")
    parser.add_argument(
        "--spec-changes",
        choices=WHO,
        help="who may change model, size and backend while the stream runs: alone (a visitor without others, or with the API "
        "token), token, never (default: alone; token with --trusted-proxy)",
    )
    parser.add_argument(
        "--model-folder",
        type=Path,
        action="append",
        default=[],
        help="visitors may load models below this folder; may be repeated",
    )
    parser.add_argument(
        "--lora-folder",
        type=Path,
        action="append",
        default=[],
        help="visitors may add LoRA files below this folder while the stream runs; may be repeated",
    )
    parser.add_argument("--blocked-words", type=Path, metavar="FILE", help="forbidden words of prompts, one for each line")
    parser.add_argument("--ssl-certfile", type=Path, help="PEM certificate; phones need HTTPS for their camera")
    parser.add_argument("--ssl-keyfile", type=Path, help="PEM key of the certificate")
    parser.add_argument(
        "--metrics-port",
        type=int,
        help="serve /metrics on this port of 127.0.0.1 without a token; on the studio's port it needs the API token",
    )
    parser.add_argument("--log-level", default="info", choices=LEVELS)


def main(args: argparse.Namespace) -> int:
    """Serve until a signal. Exit codes: 0 after SIGTERM, 130 after SIGINT, 1 for an address in use, 2 for wrong arguments."""
    try:
        config = configure(args, environment.token())
        listener, *private = listeners(args)
    except UsageError as error:
        print(f"serve: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"serve: cannot listen on {error.filename}: {error.strerror or error}", file=sys.stderr)
        return 1
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


def configure(args: argparse.Namespace, token: str | None) -> ServerConfig:
    """The checked configuration of the server, with a random token if `token` is None. Raises UsageError."""
    for option, port in (("port", args.port), ("metrics-port", args.metrics_port)):
        if port is not None and not 0 <= port <= 65535:
            raise UsageError(f"argument --{option}: {port} is not between 0 and 65535")
    if args.port == args.metrics_port != 0:
        raise UsageError(f"argument --metrics-port: {args.port} is the studio's own port; choose another one")
    for name, (least, most) in (BOUNDS | {"turn": (10, 86400)}).items():
        if not least <= (value := getattr(args, name)) <= most:
            raise UsageError(f"argument --{name.replace('_', '-')}: {value:g} is not between {least} and {most}")
    if token is not None and len(token) < 16:
        raise UsageError("the environment variable RILL_TOKEN is too short; 16 characters or more are needed")
    if (args.ssl_certfile is None) != (args.ssl_keyfile is None):
        raise UsageError("--ssl-certfile and --ssl-keyfile must be given together")
    for name in ("ssl_certfile", "ssl_keyfile"):
        path = getattr(args, name)
        if path is not None and not path.is_file():
            raise UsageError(f"argument --{name.replace('_', '-')}: {path} is not a file")
    try:
        spec = spec_of(args)
    except SpecError as error:
        option = {"width": "size", "height": "size", "loras": "lora"}.get(error.field, error.field)
        raise UsageError(f"argument --{option}: {error.reason}") from error
    devices = parse_devices(args.devices)
    rule = AddressRule(host_names(args.host, args.trusted_proxy), parse_origins(args.allow_origin), args.trusted_proxy)
    for option, folders in (("model", args.model_folder), ("lora", args.lora_folder)):
        for folder in folders:
            if not folder.is_dir():
                raise UsageError(f"argument --{option}-folder: {folder} is not a folder")
    limits = Limits(
        max_sessions=args.max_sessions,
        max_waiting=args.max_waiting,
        turn_s=args.turn,
        max_connections=args.max_connections,
        max_per_address=args.max_per_address,
        end_s=1.5,  # then the process ends hard
    )
    if (needed := args.max_waiting + 2 * args.max_sessions + limits.max_before_hello) > args.max_connections:
        raise UsageError(f"argument --max-connections: {needed} at least are needed for --max-sessions and --max-waiting")
    who = args.spec_changes or ("token" if args.trusted_proxy else "alone")
    changes = ChangeRule(who, tuple(args.model_folder), tuple(args.lora_folder))
    words = blocked_words(args.blocked_words)
    opening = opening_settings(args)
    public, users = login_options(args)
    return ServerConfig(
        spec,
        limits,
        rule,
        token or secrets.token_urlsafe(24),
        changes,
        words,
        devices=devices,
        opening=opening,
        ahead=True,
        public=public,
        users=users,
    )


def login_options(args: argparse.Namespace) -> tuple[bool, dict[str, str]]:
    """(public, users) from --public, --login, --host and --trusted-proxy. Raises UsageError."""
    try:
        return login.chosen(args, reachable=args.trusted_proxy or not _is_loopback(args.host))
    except ValueError as error:
        raise UsageError(str(error)) from error


def opening_settings(args: argparse.Namespace) -> Settings:
    """The settings of a new session: the defaults for the model, then --set. Raises UsageError."""
    try:
        return Settings().patched(OPENING.get(args.model, {}) | assignments(args.assignments))
    except SettingsError as error:
        raise UsageError(f"argument --set: {error}") from error


def parse_devices(text: str | None) -> tuple[str, ...]:
    """The devices of --devices, () for the one of --device. Raises UsageError."""
    devices = tuple(name.strip() for name in (text or "").split(",")) if text is not None else ()
    for device in devices:
        if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", device):
            raise UsageError(f"argument --devices: {device!r} is not cpu, cuda or cuda:N")
    return devices


def blocked_words(path: Path | None) -> Blocklist:
    """The filter of --blocked-words. Raises UsageError."""
    try:
        return Blocklist() if path is None else read_blocklist(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"argument --blocked-words: {path}: {error}") from error


def parse_origins(texts: list[str]) -> tuple[Origin, ...]:
    """The origins of --allow-origin. Raises UsageError."""
    try:
        return tuple(parse_origin(text.rstrip("/")) for text in texts)
    except ValueError as error:
        raise UsageError(f"argument --allow-origin: {error}") from error


def host_names(host: str, trusted_proxy: bool) -> tuple[str, ...]:
    """Accepted names in a Host header; "*" (all) behind a proxy, which must check them."""
    if trusted_proxy:
        return ("*",)
    names = []
    with contextlib.suppress(ValueError):
        names.append(parse_authority(f"[{host}]" if ":" in host else host)[0])
    if not _is_loopback(host):
        own = socket.gethostname().lower()
        names += [own, f"{own}.local"]
    return tuple(names)


def listeners(args: argparse.Namespace) -> list[socket.socket]:
    """The listening sockets of the studio and of --metrics-port. Raises UsageError, or OSError with the address as
    `filename`."""
    made: list[socket.socket] = []
    wanted = [(args.host, args.port), *([] if args.metrics_port is None else [("127.0.0.1", args.metrics_port)])]
    for host, port in wanted:
        try:
            made.append(listen(host, port))
        except OSError as error:
            for opened in made:
                opened.close()
            raise OSError(error.errno, error.strerror or str(error), f"{host} port {port}") from error
    return made


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError, or UsageError for an unknown host."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"argument --host: {host!r} is not an address of this machine") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def run(config: ServerConfig, listeners: Sequence[socket.socket], args: argparse.Namespace, shutdown: Shutdown) -> None:
    """Build the application on bound sockets, the second of them for metrics if there is one, and serve until a signal."""
    from studio.web.server import create_app  # Gradio takes seconds to import; bad arguments shall not wait for it

    @cache
    def safety() -> SafetyChecker | None:
        return safety_of(args)

    def factory(spec: StreamSpec) -> StreamPipeline:
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

    admission: the listener's; None admits everybody.
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


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
