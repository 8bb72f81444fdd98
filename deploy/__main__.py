"""The studio on several machines, or in several processes of this one.

    python -m deploy --replicas 1 4 --sessions 16 --gpus 1 --model sd-turbo              a Ray cluster on this machine only
    python -m deploy --address auto --host 0.0.0.0 --trusted-proxy ...                   on a running cluster

Ray's dashboard and usage reports are off. Without --address everything listens on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deploy.gateway import Gateway, listen
from pipelines import SpecError
from studio import environment
from studio.cli.arguments import add_spec_arguments, spec_of
from studio.cli.serve_options import UsageError, host_names, login_options, parse_origins
from studio.model.change import ChangeRule
from studio.visit.config import ServerConfig
from studio.web import login
from studio.wire import token_file
from studio.wire.limits import Limits
from studio.wire.origin import AddressRule

if TYPE_CHECKING:
    from deploy.ray_serve import Cluster


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--host", default="127.0.0.1", help="address of the gateway (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="0 is any free port (default: %(default)s)")
    parser.add_argument("--address", help="the Ray cluster, as for ray.init (default: a new one on this machine only)")
    parser.add_argument(
        "--replica-host", help="address that replicas listen on (default: 127.0.0.1; with --address their node's)"
    )
    parser.add_argument("--replicas", type=int, nargs=2, default=(1, 4), metavar=("LEAST", "MOST"))
    parser.add_argument("--sessions", type=int, default=16, help="visitors of one replica (default: %(default)s)")
    parser.add_argument("--cpus", type=float, default=2.0, help="CPUs of one replica (default: %(default)s)")
    parser.add_argument(
        "--gpus", type=float, default=0.0, help="GPUs of one replica; 0.5 puts two on one GPU (default: %(default)s)"
    )
    parser.add_argument(
        "--drain", type=float, default=120.0, metavar="SECONDS", help="how long a removed replica waits for its visitors"
    )
    parser.add_argument("--allow-origin", action="append", default=[], metavar="ORIGIN")
    login.add_arguments(parser)
    parser.add_argument("--trusted-proxy", action="store_true", help="trust X-Forwarded-Proto and X-Forwarded-Host")
    add_spec_arguments(parser)


def cluster_of(args: argparse.Namespace) -> Cluster:
    """The checked values of the arguments. Raises UsageError."""
    from deploy.ray_serve import Cluster

    least, most = args.replicas
    if not 1 <= least <= most:
        raise UsageError(f"argument --replicas: {least} {most}: the first is at least 1, and the second not below it")
    for name, value, low, high in (("sessions", args.sessions, 1, 64), ("drain", args.drain, 1, 3600)):
        if not low <= value <= high:
            raise UsageError(f"argument --{name}: {value:g} is not between {low} and {high}")
    try:
        spec = spec_of(args)
    except SpecError as error:
        raise UsageError(str(error)) from error
    rule = AddressRule(host_names(args.host, args.trusted_proxy), parse_origins(args.allow_origin), args.trusted_proxy)
    token, (public, users) = environment.token(), login_options(args)
    given: dict[str, Any] = {"public": public, "users": users} | ({} if token is None else {"token": token})
    # A change by one replica's visitors would make it differ from the others.
    config = ServerConfig(spec, Limits(max_sessions=args.sessions), rule, changes=ChangeRule("never"), **given)
    host = args.replica_host or (None if args.address else "127.0.0.1")
    return Cluster(config, least, most, args.cpus, args.gpus, host, args.drain, args.offline)


def keep_local() -> None:
    """Make a Ray cluster on this machine listen on 127.0.0.1 only. Call it before `import ray`, which reads the environment."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


async def pass_on(handle: Any, host: str, port: int, config: ServerConfig) -> None:
    """Run the gateway until a signal."""
    from deploy.ray_serve import RayRouter

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    server = await listen(Gateway(RayRouter(handle)), host, port)
    bound = server.sockets[0].getsockname()[1]
    address, known = f"http://{host}:{bound}", environment.token() is not None
    print(f"Rill is listening on {address}", flush=True)
    for line in login.words(config.public, bool(config.users), address, None if known else config.token):
        print(line, flush=True)
    with token_file.published(bound, config.token, environment.private_dirs()):
        async with server:
            await stop.wait()


def main(argv: Sequence[str]) -> int:
    """Run the command. Exit code 0, or 2 for wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m deploy", description=__doc__.splitlines()[0] if __doc__ else None)
    add_arguments(parser)
    args = parser.parse_args(argv)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if args.address is None:
        keep_local()
    try:
        from deploy import ray_serve

        cluster = cluster_of(args)
    except ImportError as error:
        print(f"deploy: {error}; install requirements-cluster.txt", file=sys.stderr)
        return 2
    except UsageError as error:
        print(f"deploy: error: {error}", file=sys.stderr)
        return 2
    handle = ray_serve.start(cluster, args.address)
    try:
        asyncio.run(pass_on(handle, args.host, args.port, cluster.config))
    finally:
        ray_serve.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
