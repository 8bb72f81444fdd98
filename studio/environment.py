"""What the studio takes from the environment: where graphs are cached, the API token. Nothing below this layer reads it."""

from __future__ import annotations

import logging
import os
from functools import cache
from pathlib import Path

log = logging.getLogger("rill")


def cache_dir() -> Path | None:
    """Where compiled graphs are kept between starts: RILL_CACHE, else XDG_CACHE_HOME/rill, else ~/.cache/rill. None, and a line
    in the log, for a user without a home: graphs are built anew at each start then. Whether it can be written shows later."""
    explicit = os.environ.get("RILL_CACHE")
    if explicit:
        return Path(explicit)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rill"
    except RuntimeError:
        _log_once("this user has no home: compiled graphs are built anew at each start (RILL_CACHE names a folder for them)")
        return None


@cache
def _log_once(message: str) -> None:
    log.warning(message)


def of_child() -> dict[str, str]:
    """The environment of a process of ours that runs one of the studio's modules, wherever this one was started."""
    root = str(Path(__file__).resolve().parents[1])
    return os.environ | {"PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}


def private_dirs() -> list[Path]:
    """Where a server leaves its token for programs of its user: XDG_RUNTIME_DIR/rill if there is one, then cache_dir()/run."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    found = [Path(runtime) / "rill"] if runtime and Path(runtime).is_dir() else []
    kept = cache_dir()
    return found if kept is None else [*found, kept / "run"]


def token() -> str | None:
    """The API token for clients without an Origin: RILL_TOKEN, None if unset or empty."""
    return os.environ.get("RILL_TOKEN") or None
