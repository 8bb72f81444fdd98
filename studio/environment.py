"""What the studio takes from the environment: where graphs are cached, the API token. Nothing below this layer reads it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def cache_dir() -> Path:
    """Where compiled graphs are kept between starts: RILL_CACHE, else XDG_CACHE_HOME/rill, else ~/.cache/rill."""
    explicit = os.environ.get("RILL_CACHE")
    if explicit:
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rill"


def private_dirs() -> list[Path]:
    """Where a server leaves its token for programs of its user: XDG_RUNTIME_DIR/rill if there is one, then cache_dir()/run."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    found = [Path(runtime) / "rill"] if runtime and Path(runtime).is_dir() else []
    with contextlib.suppress(RuntimeError):  # no home
        found.append(cache_dir() / "run")
    return found


def token() -> str | None:
    """The API token for clients without an Origin: RILL_TOKEN, None if unset or empty."""
    return os.environ.get("RILL_TOKEN") or None
