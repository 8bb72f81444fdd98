"""The browser client's files without comments and indentation: what explains the code costs its readers no bytes.

rjsmin reads a template literal up to the next backtick: the client's have no template literal inside another (a test looks).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from rcssmin import cssmin
from rjsmin import jsmin

LEAN: dict[str, Callable[[str], str]] = {".js": jsmin, ".css": cssmin}


@lru_cache(maxsize=256)
def lean(path: Path, changed_ns: int) -> bytes | None:
    """The file as it is served, None for what is served as it lies there.

    changed_ns: when it was changed, in ns, so that an edit shows at once.
    """
    minify = LEAN.get(path.suffix)
    return None if minify is None else minify(path.read_text(encoding="utf-8")).encode()
