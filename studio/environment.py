"""What the studio takes from the environment: where graphs are cached, the API token. Nothing below this layer reads it."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Where compiled graphs are kept between starts: RILL_CACHE, else XDG_CACHE_HOME/rill, else ~/.cache/rill."""
    explicit = os.environ.get("RILL_CACHE")
    if explicit:
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rill"


def token() -> str | None:
    """The API token for clients without an Origin: RILL_TOKEN, None if unset or empty."""
    return os.environ.get("RILL_TOKEN") or None
