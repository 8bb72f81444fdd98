"""The list of models that `app.py models` prints: what can be loaded, what is present."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from pipelines import ModelError, ModelInfo, ModelParts


def catalogue(models: Iterable[ModelInfo]) -> list[dict[str, Any]]:
    """One entry per model: name, title, licence, native size, steps, and whether it is present (with the reason if not)."""
    return [_entry(info) for info in models]


def _entry(info: ModelInfo) -> dict[str, Any]:
    prompts: tuple[str, ...] = ()
    try:
        prompts = info.prompts
        ModelParts(info, offline=True)
        state = "present"
    except ModelError as error:
        state = f"not usable: {error}"
    return {
        "name": info.name,
        "title": info.title,
        "licence": info.licence,
        "native_size": info.native_size,
        "max_steps": info.max_steps,
        "state": state,
        "prompts": list(prompts),
    }


def looks(models: Iterable[ModelInfo]) -> list[dict[str, str]]:
    """One entry per look of every model: model, name, title, prompt, group. ModelError for a list that cannot be read."""
    return [{"model": info.name, **dataclasses.asdict(look)} for info in models for look in info.vocabulary.looks]


def look_line(entry: dict[str, str]) -> str:
    return f"{entry['name']:<14} {entry['group']:<13} {entry['prompt']}"


def line(entry: dict[str, Any]) -> str:
    head = f"{entry['name']:<10} {entry['native_size']}px, 1-{entry['max_steps']} steps, {entry['licence']:<12} {entry['state']}"
    return f"{head}\n           {entry['title']}; try: {', '.join(entry['prompts'])}"
