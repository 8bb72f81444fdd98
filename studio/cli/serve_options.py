"""The options of `serve`: what they are, and how they become a server's configuration and its listening sockets."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import re
import secrets
import socket
from pathlib import Path

from pipelines import ModelError, Settings, SettingsError, SpecError
from studio.cli.arguments import (
    add_graph_arguments,
    add_preset_argument,
    add_spec_arguments,
    assignments,
    begun_with,
    preset_of,
    spec_of,
)
from studio.model.change import WHO, ChangeRule
from studio.visit.blocklist import Blocklist, read_blocklist
from studio.visit.config import ServerConfig
from studio.web import login
from studio.wire.limits import Limits
from studio.wire.origin import AddressRule, Origin, parse_authority, parse_origin

OPENING: dict[str, dict[str, object]] = {
    "pocket": {"cache.enabled": True, "consistency.enabled": True, "prompt": "starry blue swirl"}
}
"""What sessions start with: accelerations whose loss of quality was measured (`bench ablation`), less flicker (`bench
steady`), and one of the best looks."""

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
    add_preset_argument(parser)
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
        "--watch-while-waiting",
        action="store_true",
        help="visitors in the line see the picture of the visitor who came first; that visitor's page shows it",
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
        "--fit-share",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="of one core that fitting a picture's style may take, at most 1; 0 fits none (default: %(default)s)",
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
    if not 0.0 <= args.fit_share <= 1.0:
        raise UsageError(f"argument --fit-share: {args.fit_share:g} is not between 0 and 1")
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
        fit_share=args.fit_share,
        watch_waiting=args.watch_while_waiting,
    )


def login_options(args: argparse.Namespace) -> tuple[bool, dict[str, str]]:
    """(public, users) from --public, --login, --host and --trusted-proxy. Raises UsageError."""
    try:
        return login.chosen(args, reachable=args.trusted_proxy or not _is_loopback(args.host))
    except ValueError as error:
        raise UsageError(str(error)) from error


def opening_settings(args: argparse.Namespace) -> Settings:
    """The settings of a new session: the defaults for the model, then --preset, then --set. Raises UsageError."""
    try:
        begun = OPENING.get(args.model, {}) | begun_with(args.model) | preset_of(args)
    except (SettingsError, ModelError) as error:
        raise UsageError(f"argument --preset: {error}") from error
    try:
        return Settings().patched(begun | assignments(args.assignments))
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


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
