"""Presets of a model: named settings of its speed, from `presets.json` in its folder. `app.py bench search` writes the file.

    {"presets": [{"name": "fast", "settings": {"cache.enabled": true, ...}, "cost": 0.36, "ssim": 0.981}, ...]}

cost: multiply-adds of the UNet per frame, as a share of full passes. ssim: mean to full passes, on clips that the search did not
see.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.values.settings import FIELDS, Settings, Value
from pipelines.values.types import ModelError, SettingsError

FILE = "presets.json"
MAX_BYTES = 64 * 1024
MAX_PRESETS = 16
MAX_NAME = 40

KEYS = tuple(key for key in FIELDS if key == "steps" or key.startswith("cache."))
"""What a preset may set: how the picture is made, and not what it shows."""


@dataclass(frozen=True, slots=True)
class Preset:
    """settings: by dotted key. cost: share of the multiply-adds of full passes, 0..1. ssim: −1..1, to full passes."""

    name: str
    settings: Mapping[str, Value]
    cost: float
    ssim: float


def read_presets(folder: Path) -> tuple[Preset, ...]:
    """The presets of a model's folder, in the order of the file; none without a file. Raises ModelError for a bad one."""
    path = folder / FILE
    if not path.is_file():
        return ()
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{FILE}: is larger than {MAX_BYTES} bytes")
        listed = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{FILE}: cannot be read: {error}") from error
    entries = listed.get("presets") if isinstance(listed, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_PRESETS:
        raise ModelError(f'{FILE}: must be {{"presets": [...]}} with at most {MAX_PRESETS} entries')
    presets = tuple(_preset(entry) for entry in entries)
    names = [preset.name for preset in presets]
    if len(set(names)) < len(names):
        raise ModelError(f"{FILE}: two presets have one name")
    return presets


def _preset(entry: Any) -> Preset:
    if not isinstance(entry, dict) or set(entry) != {"name", "settings", "cost", "ssim"}:
        raise ModelError(f"{FILE}: every preset must have name, settings, cost and ssim, and nothing else")
    name, settings = entry["name"], entry["settings"]
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise ModelError(f"{FILE}: a name must be text of 1 to {MAX_NAME} printable characters")
    if not isinstance(settings, dict) or not settings:
        raise ModelError(f"{FILE}: {name}: settings must be an object with at least one setting")
    other = next((key for key in settings if key not in KEYS), None)
    if other is not None:
        raise ModelError(f"{FILE}: {name}: a preset may set {', '.join(KEYS)}, not {other}")
    try:
        Settings().patched(settings)
    except SettingsError as error:
        raise ModelError(f"{FILE}: {name}: {error}") from error
    return Preset(name, dict(settings), *(_number(name, entry, key) for key in ("cost", "ssim")))


def _number(name: str, entry: Mapping[str, Any], key: str) -> float:
    value = entry[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1.0 <= value <= 1.0:
        raise ModelError(f"{FILE}: {name}: {key} must be a number from -1 to 1")
    return float(value)


def chosen(presets: tuple[Preset, ...], name: str) -> Preset:
    """The preset with this name. Raises SettingsError, which lists the names there are."""
    for preset in presets:
        if preset.name == name:
            return preset
    known = ", ".join(preset.name for preset in presets) or "none"
    raise SettingsError("preset", f"{name[:MAX_NAME]!r} is not a preset of this model; there are: {known}")
