"""Which floors are met: what each figure must be, and a table of figures beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PATTERNS = frozenset({"halftone", "mosaic", "pixel", "terminal"})
"""Looks that are patterns by nature: their lattice is measured against their teacher's."""

COLUMNS = ("lattice", "teacher lattice", "grain L", "grain a", "grain b", "style", "edges", "warped", "still")

CLOSEST = 14.0  # grey levels between two looks


@dataclass(frozen=True)
class Floor:
    """One demand: the figure, the bound, and whether larger is better."""

    name: str
    bound: float
    larger: bool = False

    def met(self, value: float) -> bool:
        return value >= self.bound if self.larger else value <= self.bound


LOOK_FLOORS = {
    "lattice": Floor("lattice", 4.0),
    "lattice of photo": Floor("lattice", 1.0),
    "lattice of patterns": Floor("lattice over the teacher's", 1.5),
    "grain L": Floor("grain L beyond the teacher's", 2.0),
    "grain a": Floor("grain a beyond the teacher's", 0.7),
    "grain b": Floor("grain b beyond the teacher's", 0.7),
    "style": Floor("style distance to the teacher over the photograph's", 0.6),
    "edges": Floor("edges kept over the teacher's", 0.6, larger=True),
    "warped": Floor("warped error over the teacher's", 1.0),
    "still": Floor("change of a still scene over its noise", 1.5),
}
MEAN_STYLE = Floor("style distance, mean over looks", 0.45)
SEEDS = Floor("difference between seeds, prompt alone", 14.0, larger=True)


def failures(name: str, figures: Mapping[str, float]) -> list[str]:
    """Which floors a look does not meet; figures that are not known are not judged."""
    found = []
    for key, floor in LOOK_FLOORS.items():
        value = figures.get(key)
        if key.startswith("lattice"):
            if key != _lattice(name):
                continue
            value = figures.get("lattice")
            if key == "lattice of patterns" and value is not None:
                value /= max(figures["teacher lattice"], 1e-6)
        if value is not None and not floor.met(value):
            found.append(f"{floor.name} {value:.2f}")
    return found


def _lattice(name: str) -> str:
    if name in PATTERNS:
        return "lattice of patterns"
    return "lattice of photo" if name == "photo" else "lattice"


def table(report: Mapping[str, Any]) -> str:
    """Markdown: a row for each look, floors that it does not meet last."""
    lines = [f"| look | {' | '.join(COLUMNS)} | not met |", f"|{'---|' * (len(COLUMNS) + 2)}"]
    for name, figures in report["looks"].items():
        cells = [f"{figures[column]:.2f}" if column in figures else "" for column in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} | {'; '.join(failures(name, figures))} |")
    return "\n".join(lines)


def brief(report: Mapping[str, Any], painted: frozenset[str]) -> str:
    """Markdown: a row for each figure with its floor, its mean over painted looks and over the others, and the worst look of each
    in brackets; then which floors are not met, and by how many looks."""
    rows = report["looks"]
    groups = [[name for name in rows if (name in painted) == is_painted] for is_painted in (True, False)]
    lines = [
        f"| figure | floor | {len(groups[0])} painted looks | {len(groups[1])} looks of the UNet |",
        "|---|---|---|---|",
    ]
    for key in COLUMNS:
        floor = LOOK_FLOORS.get(key)
        cells = [_mean_and_worst(rows, group, key, bool(floor and floor.larger)) for group in groups]
        bound = "" if floor is None else f"{'≥' if floor.larger else '≤'} {floor.bound:g}"
        lines.append(f"| {key} | {bound} | {' | '.join(cells)} |")
    found = summary(report)
    lines += [
        "",
        f"Style, mean over all looks: {found['style, mean']} (floor {MEAN_STYLE.bound}).",
        "",
        "Floors that looks do not meet:",
        "",
    ]
    lines += [
        f"- {floor}: {len(names)} looks ({', '.join(names[:6])}{', ...' if len(names) > 6 else ''})"
        for floor, names in found["missed"].items()
    ]
    return "\n".join(lines)


def _mean_and_worst(rows: Mapping[str, Mapping[str, float]], names: Sequence[str], key: str, larger: bool) -> str:
    values = {name: rows[name][key] for name in names if key in rows[name]}
    if not values:
        return ""
    worst = (min if larger else max)(values, key=lambda name: values[name])
    return f"{sum(values.values()) / len(values):.2f} ({values[worst]:.2f}, {worst})"


def summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """Of each floor how many looks miss it, and the figures of all looks together."""
    rows = report["looks"]
    missed: dict[str, list[str]] = {}
    for name, figures in rows.items():
        for failure in failures(name, figures):
            missed.setdefault(failure.rpartition(" ")[0], []).append(name)
    styles = [figures["style"] for figures in rows.values() if "style" in figures]
    mean = sum(styles) / len(styles) if styles else None
    return {
        "looks": len(rows),
        "missed": missed,
        "style, mean": None if mean is None else round(mean, 3),
        "style, mean, met": None if mean is None else MEAN_STYLE.met(mean),
        "seeds met": {prompt: SEEDS.met(value) for prompt, value in report.get("seeds", {}).items()},
        "pairs closer than 14": [pair for pair in report.get("closest", []) if pair[0] < CLOSEST],
    }
