"""Environment variables of the studio: the cache folder and the API token. No lower layer reads the environment."""

from __future__ import annotations

import logging
import os
from functools import cache
from pathlib import Path

log = logging.getLogger("rill")


def cache_dir() -> Path | None:
    """The folder of compiled graphs: RILL_CACHE, or XDG_CACHE_HOME/rill, or ~/.cache/rill. It may turn out not to be writable.

    None, and one line in the log, for a user without a home folder: then each start builds the graphs again.
    """
    explicit = os.environ.get("RILL_CACHE")
    if explicit:
        return Path(explicit)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rill"
    except RuntimeError:
        _log_once("this user has no home folder: each start builds the graphs again (set RILL_CACHE to a folder to keep them)")
        return None


@cache
def _log_once(message: str) -> None:
    log.warning(message)


def of_child() -> dict[str, str]:
    """The environment for a child process that runs a module of the studio, whatever the working directory is."""
    root = str(Path(__file__).resolve().parents[1])
    return os.environ | {"PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}


def private_dirs() -> list[Path]:
    """Folders for the token file of a server: XDG_RUNTIME_DIR/rill if it exists, then cache_dir()/run."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    found = [Path(runtime) / "rill"] if runtime and Path(runtime).is_dir() else []
    kept = cache_dir()
    return found if kept is None else [*found, kept / "run"]


def token() -> str | None:
    """The API token for clients without an Origin: RILL_TOKEN, None if unset or empty."""
    return os.environ.get("RILL_TOKEN") or None
