"""The list of models that `app.py models` prints: what can be loaded, what is present, and what a folder or file is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pipelines import REGISTRY, ModelError, ModelFiles, ModelInfo, describe

if TYPE_CHECKING:
    from pipelines import ModelReport


def catalogue(models: Iterable[ModelInfo]) -> list[dict[str, Any]]:
    """One entry per model: name, title, licence, native size, steps, whether a part is at no known commit,
    and whether it is present (with the reason if not)."""
    return [_entry(info) for info in models]


def _entry(info: ModelInfo) -> dict[str, Any]:
    prompts: tuple[str, ...] = ()
    try:
        prompts = info.prompts
        ModelFiles(describe(info.name) if info.name in REGISTRY else info, offline=True)
        state = "present"
    except ModelError as error:
        state = f"not usable: {error}"
    return {
        "name": info.name,
        "title": info.title,
        "licence": info.licence,
        "native_size": info.native_size,
        "max_steps": info.max_steps,
        "unpinned": bool(info.unpinned),
        "state": state,
        "prompts": list(prompts),
    }


WORD = ("name", "title", "prompt", "group")


def looks(models: Iterable[ModelInfo]) -> list[dict[str, str]]:
    """One entry per look of every model, painted ones too: model, name, title, prompt, group. Raises ModelError."""
    listed = [(info.name, look) for info in models for look in (*info.vocabulary.looks, *info.vocabulary.painted)]
    return [{"model": model, **{name: getattr(look, name) for name in WORD}} for model, look in listed]


def look_line(entry: dict[str, str]) -> str:
    return f"{entry['name']:<24} {entry['group']:<13} {entry['prompt']}"


def table(entries: Iterable[dict[str, Any]]) -> list[str]:
    """Lines for a terminal: name, size, steps, state and licence in columns, the title below."""
    rows = list(entries)
    width = max((len(row["name"]) for row in rows), default=0)
    lines = []
    for row in rows:
        missing = "to name" if row["unpinned"] else "to download" if "downloaded" in row["state"] else row["state"]
        state = "present" if row["state"] == "present" else missing
        steps = f"1-{row['max_steps']}" if row["max_steps"] > 1 else "1"
        lines.append(f"{row['name']:<{width}}  {row['native_size']:>4} px  {steps:>3} steps  {state:<11}  {row['licence']}")
        pin = (
            f" (no commit is known: {row['name']}@COMMIT names one, {row['name']}@main follows the newest)"
            if row["unpinned"]
            else ""
        )
        lines.append(f"{'':<{width}}  {row['title']}{pin}")
    return lines


def lines_of(report: ModelReport) -> list[str]:
    """What `models --check` prints: the facts, then whether it would load."""
    shown = [f"{name.replace('_', ' '):<18} {_text(value)}" for name, value in report.facts.items()]
    return [report.name, *shown, "would load" if report.problem is None else f"would not load: {report.problem}"]


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
