"""Changes to the JSON files of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path


def edit(path: Path, **changes: object) -> None:
    """Write these values into a JSON object on disk."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
