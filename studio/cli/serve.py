"""The command `serve`: checks its arguments, then starts the server (studio/cli/run_server.py)."""

from __future__ import annotations

import argparse
import sys

from studio import environment
from studio.cli.serve_options import UsageError, configure, listeners


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
    from studio.cli import run_server  # imports the web server; wrong arguments do not wait for it

    return run_server.main(config, listener, private, args)
