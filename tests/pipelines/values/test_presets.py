"""Presets of a model's folder: what a good file gives, and the reason why a bad one is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.values.presets import FILE, MAX_BYTES, MAX_PRESETS, chosen, read_presets
from pipelines.values.types import ModelError, SettingsError

GOOD: dict[str, Any] = {"name": "fast", "settings": {"cache.enabled": True, "cache.interval": 5}, "cost": 0.36, "ssim": 0.98}


def folder(path: Path, *entries: Any) -> Path:
    (path / FILE).write_text(json.dumps({"presets": list(entries)}))
    return path


def test_a_folder_without_the_file_has_none(tmp_path: Path) -> None:
    assert read_presets(tmp_path) == ()


def test_the_order_is_that_of_the_file(tmp_path: Path) -> None:
    found = read_presets(folder(tmp_path, GOOD, {**GOOD, "name": "fine", "settings": {"steps": 4}}))
    assert [preset.name for preset in found] == ["fast", "fine"]
    assert found[0].settings == GOOD["settings"] and (found[0].cost, found[0].ssim) == (0.36, 0.98)
    assert chosen(found, "fine").settings == {"steps": 4}


@pytest.mark.parametrize(("entry", "reason"), [
    ({**GOOD, "name": ""}, "a name must be"),
    ({**GOOD, "name": "a\nb"}, "a name must be"),
    ({**GOOD, "settings": {}}, "at least one setting"),
    ({**GOOD, "settings": {"prompt": "ink"}}, "fast: a preset may set .*, not prompt"),
    ({**GOOD, "settings": {"cache.interval": 500}}, "fast: cache.interval: 500 is out of range"),
    ({**GOOD, "settings": {"cache.pattern": "xyz"}}, "fast: cache.pattern"),
    ({**GOOD, "cost": "low"}, "fast: cost must be a number"),
    ({**GOOD, "ssim": float("nan")}, "fast: ssim must be a number"),
    ({**GOOD, "more": 1}, "name, settings, cost and ssim, and nothing else"),
    ("fast", "name, settings, cost and ssim"),
])  # fmt: skip
def test_a_bad_preset_is_refused_with_its_reason(tmp_path: Path, entry: Any, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        read_presets(folder(tmp_path, entry))


@pytest.mark.parametrize("text", ["", "[", "[]", '{"presets": {}}', "[" * 100_000, " " * (MAX_BYTES + 1)])
def test_a_bad_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ModelError, match=FILE):
        read_presets(tmp_path)


def test_names_are_unique_and_their_number_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="one name"):
        read_presets(folder(tmp_path, GOOD, GOOD))
    with pytest.raises(ModelError, match="at most"):
        read_presets(folder(tmp_path, *({**GOOD, "name": str(index)} for index in range(MAX_PRESETS + 1))))


def test_an_unknown_name_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="preset: 'slow' is not a preset of this model; there are: fast"):
        chosen(read_presets(folder(tmp_path, GOOD)), "slow")
    with pytest.raises(SettingsError, match="there are: none"):
        chosen((), "fast")
